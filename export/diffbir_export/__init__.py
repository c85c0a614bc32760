"""Exports DiffBIR checkpoints to the ONNX bundles that the diffbir engine runs.

DiffBIR: Lin et al., arXiv 2308.15070. Where a docstring names "the reference", it means the public
PyTorch implementation at commit 3f8b530, whose checkpoints and YAML form are read here.
"""

__version__ = "0.1.0"
