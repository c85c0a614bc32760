"""Seeded random weights in the official layouts, so that every path runs without checkpoints.

Each tensor has a generator of its own, seeded from the seed, its role and its key: a tensor does
not depend on which others are made or in which order.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def generator(seed: int, role: str, key: str) -> torch.Generator:
    """A generator for one tensor."""
    digest = hashlib.sha256(f"{seed}:{role}:{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def random_tensor(seed: int, role: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """Matrices and kernels have unit gain, so activations stay of order one.

    "Zero" convolutions are not zero here: the control module has to matter.
    """
    values = torch.empty(shape)
    g = generator(seed, role, key)
    if key.endswith(("token_embedding.weight", "positional_embedding")):
        return values.normal_(0, 0.5, generator=g)
    if len(shape) >= 2:
        fan_in = math.prod(shape[1:])
        return values.normal_(0, fan_in**-0.5, generator=g)
    if key.endswith("weight"):
        return values.normal_(1, 0.05, generator=g)
    return values.normal_(0, 0.05, generator=g)
