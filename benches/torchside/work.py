"""How much work the networks are, and how fast the machine does such work at best."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

SHAPES = ((2048, 2048, 2048), (4096, 1024, 4096), (1024, 4096, 4096), (4096, 4096, 512))
"""Matrix products (m, k, n) of which the fastest is the floor."""


def macs(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of matrix products and convolutions in one call."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*inputs)
    return counter.get_total_flops() // 2


Build = Callable[[], nn.Module]


def of_stages(build: dict[str, Build], size: int, scale: int,
              context: tuple[int, int]) -> dict[str, int]:  # fmt: skip
    """MACs of each stage on the way to a square of `size`, counted without computing anything.

    The exporter's plain attention is counted, whose products the counter knows. A step is one
    branch.
    """
    small, cells = size // scale, size // 8
    with FakeTensorMode():
        latent = torch.empty(1, 4, cells, cells)
        inputs = {
            "cleaner": (torch.empty(1, 3, small, small),),
            "vae_encoder": (torch.empty(1, 3, size, size),),
            "step": (latent, torch.empty(1), torch.empty(1, *context), latent, torch.empty(13)),
            "vae_decoder": (latent,),
        }
        return {name: macs(make().eval(), *inputs[name]) for name, make in build.items()}


def gemm_rate(repeats: int = 3, device: str = "cpu") -> float:
    """The best rate of an f32 matrix product here, in multiply-adds a second."""
    best = 0.0
    for m, k, n in SHAPES:
        a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
        a @ b
        for _ in range(repeats):
            start = time.perf_counter()
            a @ b
            best = max(best, m * k * n / (time.perf_counter() - start))
    return best
