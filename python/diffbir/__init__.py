"""Blind image restoration with DiffBIR on ONNX Runtime.

    with diffbir.Engine("onnx/diffbir-v2.1") as engine:
        result = engine.restore("lq.png", upscale=4)
        result[0].save("restored.png")

Arrays in and out are sRGB, (H, W, channels); see `Engine.restore` and `Image.array`. Every error
is a `DiffbirError`, but for a TypeError where an argument has the wrong type.
"""

import os as _os

# Before ONNX Runtime is loaded: its builds report to their vendor unless this says not to. As in
# the program, 0 leaves it on.
if _os.environ.get("ORT_DISABLE_TELEMETRY") != "0":
    _os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from . import _library
from ._engine import Cancel, Engine, Event, Options, Progress, Request
from ._errors import (
    AbiError,
    BundleError,
    BusyError,
    CancelledError,
    Code,
    ConfigError,
    DiffbirError,
    InputError,
    InternalError,
    InvalidArgumentError,
    InvalidStateError,
    LibraryNotFoundError,
    NotFiniteError,
    OptionError,
    PanicError,
    ResourcesError,
    RuntimeUnavailableError,
)
from ._result import Image, Result

__version__ = "0.1.0"

__all__ = [
    "AbiError",
    "BundleError",
    "BusyError",
    "Cancel",
    "CancelledError",
    "Code",
    "ConfigError",
    "DiffbirError",
    "Engine",
    "Event",
    "Image",
    "InputError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidStateError",
    "LibraryNotFoundError",
    "NotFiniteError",
    "OptionError",
    "Options",
    "PanicError",
    "Progress",
    "Request",
    "ResourcesError",
    "Result",
    "RuntimeUnavailableError",
    "abi_version",
    "build_info",
    "version",
]


def version() -> str:
    """Return the native library's version, such as `0.1.0`."""
    return _library.load().diffbir_version().decode()


def abi_version() -> int:
    """Return the native library's ABI version."""
    return _library.load().diffbir_abi_version()


def build_info() -> str:
    """Return how the native library was built: version, target and features."""
    return _library.load().diffbir_build_info().decode()
