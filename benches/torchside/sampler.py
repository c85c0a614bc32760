"""The spaced DDPM sampler, as the program has it (src/samplers/spaced.rs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Step(NamedTuple):
    """The weights of one step."""

    timestep: int
    x0_from_x: float
    x0_from_output: float
    mean_from_x0: float
    mean_from_x: float
    sigma: float


def timesteps(total: int, count: int) -> list[int]:
    """Evenly spaced, both ends among them; summed up, since rounding decides ties."""
    found, position = [], 0.0
    for _ in range(count):
        found.append(round(position))
        position += (total - 1) / (count - 1)
    return found


def alphas_cumprod(diffusion: dict[str, Any]) -> np.ndarray:
    """Of every training timestep; with zero terminal SNR shifted and scaled to end at 0."""
    ends = np.sqrt(diffusion["linear_start"]), np.sqrt(diffusion["linear_end"])
    betas = np.linspace(*ends, diffusion["timesteps"], dtype=np.float64) ** 2
    alphas = np.cumprod(1 - betas)
    if not diffusion["zero_snr"]:
        return alphas
    roots = np.sqrt(alphas)
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return roots**2


def steps(diffusion: dict[str, Any], count: int) -> Iterator[Step]:
    """From the noisiest to the last."""
    eps = diffusion["parameterization"] == "eps"
    if eps and diffusion["zero_snr"]:
        raise SystemExit("error: an eps model with zero terminal SNR has no first step")
    chosen = timesteps(diffusion["timesteps"], count)
    alphas = alphas_cumprod(diffusion)[chosen]
    previous = np.append(1.0, alphas[:-1])
    betas = 1 - alphas / previous
    variance = betas * (1 - previous) / (1 - alphas)
    for i in reversed(range(count)):
        a, p, b = alphas[i], previous[i], betas[i]
        yield Step(
            chosen[i],
            (1 / a) ** 0.5 if eps else a**0.5,
            (1 / a - 1) ** 0.5 if eps else (1 - a) ** 0.5,
            b * p**0.5 / (1 - a),
            (1 - p) * (1 - b) ** 0.5 / (1 - a),
            variance[i] ** 0.5,
        )


Model = Callable[[Tensor, int], Tensor]


def sample(model: Model, diffusion: dict[str, Any], count: int, x: Tensor, g: torch.Generator,
           done: Callable[[], None]) -> Tensor:  # fmt: skip
    """Denoises `x`; draws as the program does, on the CPU; `done` is told of each step."""
    for step in steps(diffusion, count):
        output = model(x, step.timestep)
        pred_x0 = step.x0_from_x * x - step.x0_from_output * output
        noise = torch.randn(x.shape, generator=g).to(x.device)
        x = step.mean_from_x0 * pred_x0 + step.mean_from_x * x + step.sigma * noise
        done()
    return x
