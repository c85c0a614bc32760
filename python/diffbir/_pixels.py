"""Pictures between Python and the library."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from . import _library
from ._errors import InvalidArgumentError

if TYPE_CHECKING:
    import PIL.Image

Channels = Literal["rgb", "bgr", "rgba", "bgra", "grey"]

_TYPES = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 2, np.dtype(np.float32): 3}
_CHANNELS = {"rgb": (1, 3), "bgr": (2, 3), "rgba": (3, 4), "bgra": (4, 4), "grey": (5, 1)}
_BY_COUNT = {1: "grey", 3: "rgb", 4: "rgba"}


def _value_type(dtype: np.dtype[Any]) -> int:
    value = _TYPES.get(dtype)
    if value is None:
        raise TypeError(f"dtype is {dtype}, expected uint8, uint16 or float32")
    return value


def describe(array: npt.NDArray[Any]) -> tuple[_library.Pixels, npt.NDArray[Any]]:
    """Return an input array as the library takes it, and the array that has to live with it."""
    native = array.dtype.newbyteorder("=")
    value_type = _value_type(native)
    count = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or (array.ndim == 3 and count not in (3, 4)):
        raise InvalidArgumentError(
            f"the array's shape is {array.shape}, expected (H, W), (H, W, 3) or (H, W, 4)"
        )
    height, width = array.shape[:2]
    if height == 0 or width == 0:
        raise InvalidArgumentError(f"the array's shape is {array.shape}: it has no pixels")
    if array.dtype != native or not _rows_are_close(array, count):
        array = np.ascontiguousarray(array, native)
    row = width * count * array.itemsize
    stride = array.strides[0] if height > 1 else row
    pixels = _library.filled(_library.Pixels)
    pixels.data = array.ctypes.data
    pixels.size = stride * (height - 1) + row
    pixels.width, pixels.height = width, height
    pixels.value_type, pixels.channels = value_type, _CHANNELS[_BY_COUNT[count]][0]
    pixels.row_stride = stride
    return pixels, array


def _rows_are_close(array: npt.NDArray[Any], count: int) -> bool:
    """Whether the values of a row stand together and rows follow each other, with gaps or not."""
    height, width = array.shape[:2]
    pixel = array.itemsize * count
    within = array.ndim == 2 or array.strides[2] == array.itemsize
    beside = width == 1 or array.strides[1] == pixel
    below = height == 1 or array.strides[0] >= pixel * width
    return within and beside and below


def copy(image: int, width: int, height: int, dtype: npt.DTypeLike, channels: str) -> Any:
    """Return a result in the form that is asked for, as an array of its own."""
    wanted = np.dtype(dtype)
    value_type = _value_type(wanted)
    if channels not in _CHANNELS:
        known = ", ".join(_CHANNELS)
        raise InvalidArgumentError(f"channels is {channels!r}, expected one of {known}")
    number, count = _CHANNELS[channels]
    array = np.empty((height, width) if count == 1 else (height, width, count), wanted)
    pixels = _library.filled(_library.Pixels)
    pixels.data, pixels.size = array.ctypes.data, array.nbytes
    pixels.width, pixels.height = width, height
    pixels.value_type, pixels.channels = value_type, number
    _library.load().diffbir_image_copy(image, ctypes.byref(pixels))
    return array


def is_pil(picture: object) -> bool:
    """Whether it is a Pillow image; Pillow is not imported for the question."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(picture, module.Image)


def of_pil(picture: PIL.Image.Image) -> npt.NDArray[Any]:
    """Return a Pillow image's pixels, upright."""
    from PIL import ImageOps

    # As the library does with files: a result has no EXIF that could say so.
    upright = ImageOps.exif_transpose(picture)
    mode = upright.mode
    if mode in ("F", "I"):
        raise TypeError(
            f"a Pillow image of mode {mode} does not say what its values mean: give an array"
        )
    if mode.startswith("I;16") and "transparency" not in upright.info:
        return np.asarray(upright)
    if "transparency" in upright.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(upright.convert("RGBA"))
    return np.asarray(upright if mode in ("L", "RGB") else upright.convert("RGB"))
