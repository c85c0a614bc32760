"""Losses on pictures [N,3,H,W]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .metrics import GMSD_C, LUMA


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the first differences along both axes."""
    d = a - b
    vertical, horizontal = d[:, :, 1:] - d[:, :, :-1], d[:, :, :, 1:] - d[:, :, :, :-1]
    return vertical.abs().mean() + horizontal.abs().mean()


def frequency_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal Fourier coefficients."""
    return torch.fft.rfft2((a - b).float(), norm="ortho").abs().mean()


GRADIENT, FREQUENCY = 0.5, 0.3


def likeness(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """L1 of values, gradients and Fourier coefficients together, and that of the values alone."""
    l1 = (a - b).abs().mean()
    return l1 + GRADIENT * gradient_l1(a, b) + FREQUENCY * frequency_l1(a, b), l1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Mean decibels of pictures in [-1,1]; nothing flows back."""
    return -10 * ((a - b).detach().square().mean((1, 2, 3)) / 4).log10().mean()


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence from the unit normal, a mean over latent values."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


BANDS = 3
"""Octaves of `energy`."""
FLOOR = 0.01


def energy(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute logarithm of the ratio of luma's local strength of detail, summed over octaves.

    Strength is the root mean square over 8x8 pixels of what a 2x2 average takes away: it does not
    ask where a detail is, so an honest guess costs nothing where a missing one does.
    """
    total = a.new_zeros(())
    a, b = luma(a), luma(b)
    for _ in range(BANDS):
        strengths = []
        small = [F.avg_pool2d(x, 2) for x in (a, b)]
        for x, low in zip((a, b), small, strict=True):
            detail = x - F.interpolate(low, scale_factor=2.0, mode="bilinear")
            strengths.append((F.avg_pool2d(detail.square(), 8) + FLOOR**2).log() / 2)
        total = total + (strengths[0] - strengths[1]).abs().mean()
        a, b = small
    return total


def luma(image: Tensor) -> Tensor:
    """Rec. 601 luma [N,1,H,W]."""
    return (image * image.new_tensor(LUMA)[None, :, None, None]).sum(1, keepdim=True)


def rough_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of means over 4x4 pixels, and of colours less luma at each pixel."""
    d = a - b
    return F.avg_pool2d(d, 4).abs().mean() + (d - luma(d)).abs().mean()


LEVELS = 5


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Prewitt's horizontal and vertical gradient [N,1,h,w] of luma, in levels of 255."""
    levels = 127.5 * luma(image.float())
    step = levels.new_tensor([-1.0, 0.0, 1.0]).expand(3, 3)[None, None] / 3
    return F.conv2d(levels, step), F.conv2d(levels, step.mT)


def gmsd(a: Tensor, b: Tensor) -> Tensor:
    """Mean gradient magnitude similarity deviation (Xue et al. 2014), as `metrics.gmsd`."""
    a, b = ((x.square() + y.square() + 1e-3).sqrt()
            for x, y in (gradients(F.avg_pool2d(image, 2)) for image in (a, b)))  # fmt: skip
    similarity = (2 * a * b + GMSD_C) / (a.square() + b.square() + GMSD_C)
    return similarity.var((1, 2, 3), correction=0).add(1e-6).sqrt().mean()


def direction(a: Tensor, b: Tensor) -> Tensor:
    """Mean of 1 - the correlation of the gradient fields: their strength does not count."""
    a, b = (torch.cat(gradients(image), 1).flatten(1) for image in (a, b))
    return 1 - F.cosine_similarity(a, b, dim=1, eps=1e-3).mean()


def low_frequencies(x: Tensor) -> Tensor:
    """What the program's wavelet colour correction takes from the cleaner, [N,3,H,W]."""
    taps = x.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(taps, taps)[None, None].repeat(3, 1, 1, 1)
    for radius in (2**level for level in range(LEVELS)):
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        x = F.conv2d(padded, kernel, groups=3, dilation=radius)
    return x
