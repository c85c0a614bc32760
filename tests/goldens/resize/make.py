"""Pictures resized by Pillow (8-bit) and torch (float)."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

# (width, height) of the input, then of the outputs
PILLOW = [
    ((29, 23), [(58, 46), (116, 92), (14, 11), (50, 23), (29, 40), (29, 23), (7, 60), (1, 1)]),
    ((1, 1), [(4, 3)]),
    ((200, 3), [(11, 3), (37, 1)]),
]
TORCH = [
    ((29, 23), [(58, 46), (64, 51), (14, 11), (50, 23), (29, 40), (29, 23), (7, 60)]),
    ((1, 2), [(5, 3)]),
]


def picture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Noise over a gradient, with black and white corners so that overshoot is clamped."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 128 + 0 * x], -1)
    result = np.clip(base + rng.normal(0, 60, base.shape), 0, 255).astype(np.uint8)
    result[: height // 4, : width // 4] = 0
    result[-(height // 4) :, -(width // 4) :] = 255
    return result


def main() -> None:
    arrays = {}
    rng = np.random.default_rng(9)
    for i, ((width, height), sizes) in enumerate(PILLOW):
        image = picture(rng, width, height)
        arrays[f"pillow.{i}.in"] = image
        for w, h in sizes:
            arrays[f"pillow.{i}.{h}x{w}"] = np.array(Image.fromarray(image).resize((w, h), Image.BICUBIC))
    for i, ((width, height), sizes) in enumerate(TORCH):
        image = rng.random((2, 3, height, width), dtype=np.float32)
        arrays[f"torch.{i}.in"] = image
        for w, h in sizes:
            out = F.interpolate(torch.from_numpy(image), (h, w), mode="bicubic", antialias=True)
            arrays[f"torch.{i}.{h}x{w}"] = out.numpy()
    write(__file__, arrays, ["pillow", "torch"], seed=9)


main()
