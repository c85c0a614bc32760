"""JPEG files of every common layout, and what Pillow (libjpeg-turbo) and lcms read from them.

The pictures are cut from the demo's photographs. Writes the files beside this script as well.
"""

import struct
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
# name: source, (left, top, width, height), mode, how Pillow writes it
FILES = {
    "full_chroma": ("docs/demo.jpg", (430, 60, 93, 71), "RGB", {"subsampling": "4:4:4", "quality": 90}),
    "half_chroma": ("docs/demo.jpg", (500, 500, 88, 67), "RGB", {"subsampling": "4:2:2", "quality": 85}),
    "quarter_chroma": ("docs/demo.jpg", (820, 90, 101, 61), "RGB", {"subsampling": "4:2:0", "quality": 75}),
    "progressive": ("docs/demo.jpg", (900, 520, 97, 70), "RGB", {"progressive": True, "quality": 80}),
    "progressive_half": ("coffee", (3, 5, 77, 81), "RGB", {"progressive": True, "subsampling": "4:2:2"}),
    "restarts": ("astronaut", (0, 0, 96, 64), "RGB", {"restart_marker_blocks": 3, "quality": 60}),
    "coarse": ("chelsea", (7, 2, 81, 73), "RGB", {"quality": 12}),
    "rgb": ("coffee", (10, 20, 65, 63), "RGB", {"keep_rgb": True, "quality": 88}),
    "grey": ("astronaut", (1, 1, 90, 83), "L", {"quality": 92, "optimize": True}),
    "grey_progressive": ("chelsea", (0, 9, 95, 80), "L", {"progressive": True, "quality": 70}),
    "cmyk": ("coffee", (16, 0, 70, 55), "CMYK", {"quality": 90}),
    "cmyk_profile": ("docs/demo.jpg", (880, 900, 64, 61), "CMYK", {"quality": 92, "icc_profile": True}),
}

GRID = 5
"""Nodes along each side of the ink profile's table."""


def source(name: str) -> Image.Image:
    path = name if "/" in name else f"onnx/demo/pictures/{name}.png"
    return Image.open(ROOT / path).convert("RGB")


def ink_profile() -> bytes:
    """An output profile with one table, from four inks to Lab."""
    paper = np.array([100.0, 0, 0])
    inks = np.array([[55, -37, -50], [48, 74, -3], [89, -5, 93], [16, 0, 0]], float)
    # Neugebauer's colours: each overprint by the area that it covers.
    shares = np.stack(np.meshgrid(*[np.linspace(0, 1, GRID)] * 4, indexing="ij"), -1).reshape(-1, 4)
    nodes = np.zeros((len(shares), 3))
    for i in range(16):
        lab, area = paper.copy(), np.ones(len(shares))
        for bit, ink, share in zip([8, 4, 2, 1], inks, shares.T):
            area *= share if i & bit else 1 - share
            if i & bit:  # each ink multiplies lightness and adds its hue
                lab = np.array([lab[0] * ink[0] / paper[0], *(lab[1:] + ink[1:]) / 2])
        nodes += area[:, None] * lab
    nodes = nodes * [65280 / 100, 256, 256] + [0, 32768, 32768]
    table = np.clip(np.rint(nodes), 0, 65535).astype(">u2").tobytes()
    line = struct.pack(">2H", 0, 65535)
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft2" + bytes(4) + bytes([4, 3, GRID, 0]) + identity + struct.pack(">2H", 2, 2)
    lut += line * 4 + table + line * 3
    text = b"four inks, made for a test"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(1 + 78)
    point = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, data, at = b"", b"", 128 + 4 + 3 * 12
    for name, value in ((b"desc", description), (b"wtpt", point), (b"A2B0", lut)):
        value += bytes(-len(value) % 4)
        tags += name + struct.pack(">2I", at + len(data), len(value))
        data += value
    size = at + len(data)
    illuminant = struct.pack(">3i", 63190, 65536, 54061)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + illuminant
    header += bytes(128 - len(header))
    return header + struct.pack(">I", 3) + tags + data


def main() -> None:
    arrays = {}
    for name, (picture, (left, top, width, height), mode, options) in FILES.items():
        options = dict(options)
        if options.get("icc_profile"):
            options["icc_profile"] = ink_profile()
        image = source(picture).crop((left, top, left + width, top + height)).convert(mode)
        path = FOLDER / f"{name}.jpg"
        image.save(path, **options)
        read = Image.open(path)
        if icc := read.info.get("icc_profile"):
            inks, srgb = ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
            # Perceptual, lcms would make the darkest ink black.
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            values = ImageCms.profileToProfile(read, inks, srgb, intent, "RGB")
        else:
            values = read.convert("RGB")
        arrays[name] = np.array(values)
    # A file that was there before, of a program's own making.
    arrays["demo"] = np.array(source("docs/demo.jpg"))[::97, ::3]
    write(__file__, arrays, ["pillow"])


main()
