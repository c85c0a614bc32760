"""The denoiser in overlapping tiles under Gaussian weights, for the timing of large pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Evaluate = Callable[[slice, slice], Tensor]


def starts(length: int, size: int, stride: int) -> list[int]:
    """Where tiles begin along one axis; the last one ends with the picture."""
    if length <= size:
        return [0]
    found = list(range(0, length - size, stride))
    return [*found, length - size]


class Grid:
    """Tiles of `size` every `stride` cells over a latent."""

    def __init__(self, shape: tuple[int, int], size: int, stride: int, device: object) -> None:
        self.rows, self.columns = (starts(length, size, stride) for length in shape)
        self.size = size
        axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        bell = torch.exp(-(axis**2) / (size**2 * 2 * 0.01))
        self.weights = torch.outer(bell, bell).to(device)

    def blend(self, evaluate: Evaluate, like: Tensor) -> Tensor:
        """The weighted mean of all tiles' results."""
        total, weight = torch.zeros_like(like), torch.zeros_like(like)
        for top in self.rows:
            for left in self.columns:
                rows, columns = slice(top, top + self.size), slice(left, left + self.size)
                found = evaluate(rows, columns)
                h, w = found.shape[-2:]
                total[..., rows, columns] += found * self.weights[:h, :w]
                weight[..., rows, columns] += self.weights[:h, :w]
        return total / weight
