"""Losses on pictures [N,3,H,W]."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the first differences along both axes."""
    d = a - b
    vertical, horizontal = d[:, :, 1:] - d[:, :, :-1], d[:, :, :, 1:] - d[:, :, :, :-1]
    return vertical.abs().mean() + horizontal.abs().mean()


def frequency_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal Fourier coefficients."""
    return torch.fft.rfft2((a - b).float(), norm="ortho").abs().mean()


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence from the unit normal, a mean over latent values."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
