"""Losses on pictures [N,3,H,W]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
"""Octaves of `energy_l1`."""
FLOOR = 0.01


def energy_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the local strength of detail in each octave.

    Strength is the root mean square over 8x8 pixels of what a 2x2 average takes away: it does not
    ask where a detail is, so an honest guess costs nothing where a missing one does.
    """
    total = a.new_zeros(())
    for _ in range(BANDS):
        strengths = []
        small = [F.avg_pool2d(x, 2) for x in (a, b)]
        for x, low in zip((a, b), small, strict=True):
            detail = x - F.interpolate(low, scale_factor=2.0, mode="bilinear")
            strengths.append((F.avg_pool2d(detail.square(), 8) + FLOOR**2).sqrt())
        total = total + (strengths[0] - strengths[1]).abs().mean()
        a, b = small
    return total
