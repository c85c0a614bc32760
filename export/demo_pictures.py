"""Makes the demo's low-quality pictures from photographs that scikit-image ships.

    python demo_pictures.py ../onnx/demo/pictures [--truth DIR]

Sources (scikit-image's data/README.txt): `astronaut` is NASA's and in the public domain, `chelsea`
(Stefan van der Walt) and `coffee` (Rachel Michetti) are CC0. None is ever trained on. Each is
cropped to a square and degraded with the preset that the model is measured with.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from diffbir_export.degrade import PRESETS, degrade

EDGE, SCALE = 384, 4
"""Edge of the square in pixels, and how many times smaller its low-quality picture is."""

CROPS = {"astronaut": (0, 60, 400), "chelsea": (0, 80, 300), "coffee": (0, 120, 400)}
"""Top row, left column and edge of the square that is kept."""


def truth(name: str) -> Image.Image:
    """The square as it should come out."""
    top, left, edge = CROPS[name]
    crop = getattr(data, name)()[top : top + edge, left : left + edge]
    return Image.fromarray(crop).resize((EDGE, EDGE), Image.Resampling.LANCZOS)


def main() -> None:
    """Writes one low-quality picture per source, and the truth on request."""
    parser = argparse.ArgumentParser(prog="demo_pictures", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--truth", type=Path, metavar="DIR", help="write the squares there")
    args = parser.parse_args()
    for seed, name in enumerate(CROPS):
        square = truth(name)
        rng = np.random.default_rng(seed)
        low = degrade(np.asarray(square), PRESETS["evaluation"], rng, SCALE)
        for folder, image in ((args.folder, Image.fromarray(low)), (args.truth, square)):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                image.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
