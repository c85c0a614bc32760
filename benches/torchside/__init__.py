"""DiffBIR in PyTorch, to be timed beside the program."""

import os

# Before onnxruntime is imported: its builds report to their vendor unless this says not to. 0
# leaves it on.
if os.environ.get("ORT_DISABLE_TELEMETRY") != "0":
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
