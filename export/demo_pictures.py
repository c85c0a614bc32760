"""Makes the demo's low-quality pictures from photographs that scikit-image ships.

    python demo_pictures.py ../onnx/demo/pictures

Sources (scikit-image's data/README.txt): `astronaut` is NASA's and in the public domain, `chelsea`
(Stefan van der Walt) and `coffee` (Rachel Michetti) are CC0. Each is cropped, blurred, shrunk, made
noisy and compressed: an own, seeded degradation of the kind DiffBIR's first stage is
trained on.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

SIZE = 96
"""Edge of the low-quality picture in pixels."""

CROPS = {"astronaut": (0, 100), "chelsea": (0, 80), "coffee": (20, 180)}
"""Top left corner (row, column) of the square of 300 pixels that is kept."""


def degrade(picture: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Blurs, shrinks to SIZE, adds Gaussian noise of 8 levels, compresses as JPEG of quality 45."""
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2.0))
    small = np.asarray(blurred.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float64)
    noisy = np.clip(small + rng.normal(0.0, 8.0, small.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=45)
    return Image.open(buffer).convert("RGB")


def main(folder: Path) -> None:
    """Writes one low-quality picture per source into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (top, left)) in enumerate(CROPS.items()):
        picture = getattr(data, name)()
        crop = picture[top : top + 300, left : left + 300]
        degrade(crop, np.random.default_rng(seed)).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
