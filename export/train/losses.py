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


LEVELS = 5


def low_frequencies(x: Tensor) -> Tensor:
    """What the program's wavelet colour correction takes from the cleaner, [N,3,H,W]."""
    taps = x.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(taps, taps)[None, None].repeat(3, 1, 1, 1)
    for radius in (2**level for level in range(LEVELS)):
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        x = F.conv2d(padded, kernel, groups=3, dilation=radius)
    return x
