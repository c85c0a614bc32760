"""Makes low-quality pictures as Real-ESRGAN (arXiv 2107.10833) and DiffBIR (2308.15070) do.

    python -m diffbir_export.degrade IN OUT --seed N [--preset evaluation] [--scale 4]

One order is: blur, resize, noise, JPEG; with some probability a second, milder one follows, and
the result is brought to 1/scale of the picture's size and compressed. Written from the papers; of
their recipe the sinc kernels are left out. Pictures are u8 [H,W,3]; equal seeds, equal pictures.
"""

from __future__ import annotations

import argparse
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Range = tuple[float, float]
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
SHAPES = ("isotropic", "anisotropic", "generalised_isotropic", "generalised_anisotropic",
          "plateau_isotropic", "plateau_anisotropic")  # fmt: skip
SHAPE_WEIGHTS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)

LEVELS = 256
"""Real-ESRGAN counts the picture's levels instead, which drowns flat pictures in noise."""


@dataclass(frozen=True)
class Order:
    """Ranges of one pass: noise in levels of 255, resize as a factor, jpeg as a quality."""

    blur: float
    sigma: Range
    resize: Range
    noise: Range
    poisson: Range
    jpeg: tuple[int, int]
    grey: float = 0.4
    beta_generalised: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)


@dataclass(frozen=True)
class Preset:
    """One or two orders; `second` is the probability of the second."""

    first: Order
    again: Order
    second: float


PRESETS = {
    # Real-ESRGAN's ranges.
    "general": Preset(
        Order(1.0, (0.2, 3.0), (0.15, 1.5), (1, 30), (0.05, 3.0), (30, 95)),
        Order(0.8, (0.2, 1.5), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
        1.0,
    ),
    # What the demo model is trained on: milder, as it is small.
    "demo": Preset(
        Order(1.0, (0.2, 2.8), (0.3, 1.2), (1, 16), (0.05, 1.5), (35, 95)),
        Order(0.6, (0.2, 1.2), (0.5, 1.2), (1, 10), (0.05, 1.0), (40, 95)),
        0.3,
    ),
    # What it is measured on: fixed before training, inside the ranges above. Do not change it.
    "evaluation": Preset(
        Order(1.0, (0.8, 2.4), (0.4, 1.0), (3, 12), (0.3, 1.0), (45, 85)),
        Order(0.6, (0.2, 1.0), (0.6, 1.0), (1, 6), (0.05, 0.6), (50, 90)),
        0.3,
    ),
}


def quadratic(size: int, sigma_x: float, sigma_y: float, angle: float) -> np.ndarray:
    """d^T S^-1 d on a grid, S with standard deviations `sigma_x`, `sigma_y`, rotated."""
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    c, s = math.cos(angle), math.sin(angle)
    return ((c * x + s * y) / sigma_x) ** 2 + ((c * y - s * x) / sigma_y) ** 2


def kernel(order: Order, rng: np.random.Generator) -> np.ndarray:
    """A random blur kernel, f32, its sum 1."""
    shape = SHAPES[rng.choice(len(SHAPES), p=SHAPE_WEIGHTS)]
    size = int(2 * rng.integers(3, 11) + 1)
    sigma_x = sigma_y = rng.uniform(*order.sigma)
    angle = 0.0
    if not shape.endswith("_isotropic") and shape != "isotropic":
        sigma_y, angle = rng.uniform(*order.sigma), rng.uniform(-math.pi, math.pi)
    q = quadratic(size, sigma_x, sigma_y, angle)
    if shape.startswith("plateau"):
        values = 1 / (1 + q ** rng.uniform(*order.beta_plateau))
    elif shape.startswith("generalised"):
        values = np.exp(-0.5 * q ** rng.uniform(*order.beta_generalised))
    else:
        values = np.exp(-0.5 * q)
    return (values / values.sum()).astype(np.float32)


def blur(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolution by Fourier transform, the picture reflected at its borders."""
    pad = min(weights.shape[0] // 2, min(picture.shape[:2]) - 1)
    cut = weights.shape[0] // 2 - pad
    weights = weights[cut : weights.shape[0] - cut, cut : weights.shape[1] - cut]
    padded = np.pad(picture.astype(np.float32), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(weights / weights.sum(), size)
    result = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * spectrum[..., None], size, (0, 1))
    return quantise(result[2 * pad :, 2 * pad :])


def quantise(values: np.ndarray) -> np.ndarray:
    """Rounds and clips to u8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def resize(picture: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """To a size by area, bilinear or bicubic."""
    method = FILTERS[rng.integers(len(FILTERS))]
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


def gaussian_noise(picture: np.ndarray, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Additive, of one colour or grey."""
    channels = 1 if rng.random() < order.grey else 3
    sigma = rng.uniform(*order.noise)
    noise = rng.standard_normal((*picture.shape[:2], channels), dtype=np.float32)
    return quantise(picture + np.float32(sigma) * noise)


def poisson_noise(picture: np.ndarray, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of a camera whose full scale is LEVELS photons, times a random factor."""
    grey, scale = rng.random() < order.grey, rng.uniform(*order.poisson)
    values = picture.astype(np.float32) / 255
    if grey:
        values = values @ np.array([[0.299], [0.587], [0.114]], np.float32)
    noise = rng.poisson(values * LEVELS).astype(np.float32) / LEVELS - values
    return quantise(picture + np.float32(255 * scale) * noise)


def jpeg(picture: np.ndarray, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Compressed and read back."""
    buffer = io.BytesIO()
    quality = int(rng.integers(order.jpeg[0], order.jpeg[1] + 1))
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def degrade_once(
    picture: np.ndarray, order: Order, target: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Blur, resize by a random factor (not below `target`), noise."""
    if rng.random() < order.blur:
        picture = blur(picture, kernel(order, rng))
    factor = rng.uniform(*order.resize)
    sides = [max(t, round(s * factor)) for s, t in
             zip(picture.shape[:2], target, strict=True)]  # fmt: skip
    picture = resize(picture, *sides, rng)
    noise = gaussian_noise if rng.random() < 0.5 else poisson_noise
    return noise(picture, order, rng)


def degrade(
    picture: np.ndarray, preset: Preset, rng: np.random.Generator, scale: int = 4
) -> np.ndarray:
    """`picture` u8 [H,W,3] -> u8 [H/scale,W/scale,3]."""
    target = (picture.shape[0] // scale, picture.shape[1] // scale)
    order = preset.first
    if rng.random() < preset.second:
        picture = jpeg(degrade_once(picture, preset.first, target, rng), preset.first, rng)
        order = preset.again
    if rng.random() < order.blur:
        picture = blur(picture, kernel(order, rng))
    picture = resize(picture, *target, rng)
    noise = gaussian_noise if rng.random() < 0.5 else poisson_noise
    return jpeg(noise(picture, order, rng), order, rng)


def main() -> None:
    """Reads, degrades and writes one picture, cropped to a multiple of the scale."""
    parser = argparse.ArgumentParser(
        prog="diffbir_export.degrade", description=__doc__.split("\n")[0]
    )
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, help="written as PNG")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--preset", choices=PRESETS, default="evaluation")
    parser.add_argument("--scale", type=int, default=4, help="input size over output size")
    args = parser.parse_args()
    with Image.open(args.input) as image:
        picture = np.asarray(image.convert("RGB"))
    height, width = (side // args.scale * args.scale for side in picture.shape[:2])
    if args.scale < 1 or min(height, width) < 4 * args.scale:
        parser.error(f"--scale {args.scale} does not fit a picture of {picture.shape[:2]}")
    rng = np.random.default_rng(args.seed)
    result = degrade(picture[:height, :width], PRESETS[args.preset], rng, args.scale)
    Image.fromarray(result).save(args.output, "PNG")


if __name__ == "__main__":
    main()
