"""Exports DiffBIR checkpoints to the ONNX bundles that the diffbir engine runs.

DiffBIR: Lin et al., arXiv 2308.15070. Where a docstring names "the reference", it means the public
PyTorch implementation at commit 3f8b530, whose checkpoints and YAML form are read here.
"""

import os

# Before onnxruntime is imported: its builds report to their vendor unless this says not to. 0
# leaves it on.
if os.environ.get("ORT_DISABLE_TELEMETRY") != "0":
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
