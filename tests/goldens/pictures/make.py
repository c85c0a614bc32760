"""Picture files that Pillow writes, all of the same 12x8 colours, as inputs of tests/pictures.

The .jxl files are libjxl's (cjxl 0.7, `-d 0`): still and alpha of these colours as PNG, animated and metadata
(`--container=1`) of animated.gif and metadata.png. brotli_exif.jxl is a container whose box of EXIF, `brob`,
holds a gigabyte of zeros in 825 bytes.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FOLDER = Path(__file__).resolve().parent
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def color() -> Image.Image:
    """Smooth colours that fade to the right."""
    y, x = np.mgrid[0:8, 0:12]
    return Image.fromarray(np.stack([x * 20, y * 30, 0 * x + 90, 255 - x * 10], -1).astype(np.uint8), "RGBA")


def tags() -> ImageFileDirectory_v2:
    """A TIFF's description of the camera, and XMP."""
    found = ImageFileDirectory_v2()
    found[271] = "Cam"
    found[34665] = {33434: (1, 50)}
    found[700] = XMP
    found.tagtype[700] = 1
    return found


def exif(orientation: int) -> Image.Exif:
    """The camera, and how it was held."""
    found = Image.Exif()
    found[271] = "Cam"
    found[274] = orientation
    found.get_ifd(34665)[33434] = (1, 50)
    return found


def main() -> None:
    alpha, rgb = color(), color().convert("RGB")
    grey = rgb.convert("L")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the time of its making
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    files: dict[str, tuple[Image.Image, dict]] = {
        "lossy.webp": (rgb, {"quality": 95}),
        "lossy_alpha.webp": (alpha, {"quality": 95}),
        "metadata.webp": (rgb, {"lossless": True, "icc_profile": profile, "exif": exif(1), "xmp": XMP}),
        "animated.webp": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)], "duration": 100}),
        "lzw.tif": (rgb, {"compression": "tiff_lzw"}),
        "deflate.tif": (rgb, {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}),
        "packbits.tif": (rgb, {"compression": "packbits"}),
        "jpeg.tif": (rgb, {"compression": "jpeg", "quality": 95}),
        "bilevel.tif": (grey.point(lambda x: 255 * (x > 80)).convert("1"), {"compression": "group4"}),
        "grey_alpha.tif": (alpha.convert("LA"), {}),
        "cmyk.tif": (rgb.convert("CMYK"), {}),
        "metadata.tif": (rgb, {"icc_profile": profile, "tiffinfo": tags()}),
        "pages.tif": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        "bilevel.png": (grey.point(lambda x: 255 * (x > 80)).convert("1"), {}),
        "metadata.png": (rgb, {"icc_profile": profile, "exif": exif(3), "pnginfo": text}),
        "metadata.jpg": (rgb, {"icc_profile": profile, "exif": exif(6), "xmp": XMP, "quality": 95}),
        "palette.bmp": (rgb.quantize(64), {}),
        "animated.gif": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        "still.gif": (rgb, {}),
        "still.avif": (rgb, {}),
    }
    for name, (image, options) in files.items():
        image.save(FOLDER / name, **options)
    print(sum(path.stat().st_size for path in FOLDER.iterdir()), "bytes")


main()
