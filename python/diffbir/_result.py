"""Results: pictures that the library owns."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from . import _library, _pixels
from ._errors import OptionError
from ._pixels import Channels

if TYPE_CHECKING:
    import PIL.Image


class _View:
    """The library's pixels for numpy, which keeps this object, and so the handle, alive."""

    def __init__(self, handle: _library.Handle, data: int, shape: tuple[int, int, int]) -> None:
        self._handle = handle
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "|u1",
            "data": (data, True),
        }


class Image:
    """One restored picture. It never changes; threads may share it, and it outlives its engine."""

    def __init__(self, handle: _library.Handle) -> None:
        self._handle = handle

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return _library.load().diffbir_image_width(self._handle.pointer)

    @property
    def height(self) -> int:
        """Rows."""
        return _library.load().diffbir_image_height(self._handle.pointer)

    @property
    def has_alpha(self) -> bool:
        """Whether the input was transparent somewhere, and so the result is."""
        return _library.load().diffbir_image_has_alpha(self._handle.pointer)

    def array(
        self, dtype: npt.DTypeLike = np.uint8, channels: Channels = "rgb"
    ) -> npt.NDArray[Any]:
        """Return the pixels, in sRGB.

        uint8 in rgb is a read-only view of the library's memory, shape (H, W, 3); it may outlive
        this object. Everything else is a copy.

        Args:
            dtype: uint8 (0 to 255), uint16 (0 to 65535) or float32 (0 to 1). A result has 16 bits
                where its input has more than 8, or `output.depth` is 16.
            channels: `rgb`, `bgr` (H, W, 3), `rgba`, `bgra` (H, W, 4; full alpha where the picture
                has none) or `grey` (H, W; Rec. 601 luma).

        Raises:
            TypeError: another dtype.
            InvalidArgumentError: other channels.

        """
        if channels == "rgb" and np.dtype(dtype) == np.uint8:
            data = _library.load().diffbir_image_data(self._handle.pointer)
            return np.asarray(_View(self._handle, data, (self.height, self.width, 3)))
        return _pixels.copy(self._handle.pointer, self.width, self.height, dtype, channels)

    def encode(
        self, format: str = "png", quality: int | None = None, metadata: bool = True
    ) -> bytes:
        """Return the picture as a file's bytes, with its alpha, EXIF, XMP and colour profile.

        Args:
            format: `png`, `jpeg`, `webp` (lossless), `tiff` or `bmp`.
            quality: of JPEG, 1 to 100; None: the configuration's `output.quality`.
            metadata: whether the file says how the picture was made.

        Raises:
            OptionError: another format or quality.
            InputError: the format cannot hold the picture.

        """
        options = _encode_options(format, quality, metadata)
        library, data, size = _library.load(), ctypes.c_void_p(), ctypes.c_size_t()
        library.diffbir_image_encode(
            self._handle.pointer, ctypes.byref(options), ctypes.byref(data), ctypes.byref(size)
        )
        assert data.value is not None
        try:
            return ctypes.string_at(data.value, size.value)
        finally:
            library.diffbir_bytes_free(data.value, size.value)

    def save(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = False,
        *,
        format: str | None = None,
        quality: int | None = None,
        metadata: bool = True,
    ) -> None:
        """Write the picture to a file, whole or not at all. Missing folders are made.

        Args:
            path: the file; its name says the format where `format` is None.
            overwrite: whether an existing file is replaced.
            format: as for `encode`.
            quality: as for `encode`.
            metadata: as for `encode`.

        Raises:
            OptionError: the file exists, or another format or quality.
            InputError: the file cannot be written.

        """
        options = _encode_options(format, quality, metadata)
        options.overwrite = int(overwrite)
        place = _library.path("path", path)
        write = _library.load().diffbir_image_write
        write(self._handle.pointer, place, ctypes.byref(options))

    def to_pil(self) -> PIL.Image.Image:
        """Return a Pillow image: RGBA where the picture has alpha, else RGB."""
        import PIL.Image

        return PIL.Image.fromarray(self.array(channels="rgba" if self.has_alpha else "rgb"))

    def __repr__(self) -> str:
        """Return the picture's size."""
        alpha = ", alpha" if self.has_alpha else ""
        return f"<diffbir.Image {self.width}x{self.height}{alpha}>"


def _encode_options(
    format: str | None, quality: int | None, metadata: bool
) -> _library.EncodeOptions:
    if quality is not None and not 1 <= quality <= 100:
        # In the library's words, which itself takes 0 for unset.
        raise OptionError(f"quality is {quality}, expected 1 to 100")
    options = _library.filled(_library.EncodeOptions)
    options.format = _library.text("format", format)
    options.quality = quality or 0
    options.metadata = int(metadata)
    return options


class Result(Sequence[Image]):
    """The samples of one request; all are of the same picture.

    Attributes:
        provenance: how they were made: engine, bundle, provider and precision of each graph, every
            option.

    """

    provenance: dict[str, Any]

    def __init__(self, images: Sequence[Image], provenance: dict[str, Any]) -> None:
        self._images = tuple(images)
        self.provenance = provenance

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """Return one sample, from 0, or several."""
        return self._images[index]

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self._images)

    def __repr__(self) -> str:
        """Return the samples."""
        return f"<diffbir.Result {list(self._images)}>"
