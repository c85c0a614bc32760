"""A restoration in PyTorch with the clock running: cleaner, VAE encoder, sampler, VAE decoder.

Sizes must be such that nothing is resized or padded on the way, so that it computes what the
program computes between reading a picture and correcting its colours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import sampler
from .modules import Modules
from .tiles import Grid

CONTROLS = 13
"""Residuals of the control module."""


@dataclass(frozen=True)
class Options:
    """How a restoration runs."""

    steps: int = 5
    cfg_scale: float = 1.0
    seed: int = 231
    batched: bool = True
    """cond and uncond in one batch, with one encoding; else one after the other, with an encoding
    each, as the reference has it."""
    samples: int = 1
    tiles: tuple[int, int] | None = None
    """Size and stride of the denoiser's tiles in latent cells."""


class Clock:
    """Seconds between marks; waits for a device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.last = device, time.perf_counter()

    def lap(self) -> float:
        """Since the last mark."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        taken, self.last = now - self.last, now
        return taken


class Denoiser:
    """The noise model under fixed conditions."""

    def __init__(self, modules: Modules, hint: Tensor, options: Options) -> None:
        self.net, self.hint, self.options = modules.networks["step"], hint, options
        self.strength = torch.ones(CONTROLS, device=hint.device)
        self.cond, self.uncond = (context.expand(len(hint), -1, -1) for context in modules.contexts)

    def call(self, x: Tensor, t: int, context: Tensor, hint: Tensor) -> Tensor:
        """One evaluation, whole or in tiles."""
        times = torch.full((len(x),), float(t), device=x.device)
        if self.options.tiles is None:
            return self.net(x, times, context, hint, self.strength)
        grid = Grid(x.shape[-2:], *self.options.tiles, x.device)
        return grid.blend(
            lambda rows, columns: self.net(
                x[..., rows, columns], times, context, hint[..., rows, columns], self.strength
            ),
            x,
        )

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """The guided prediction."""
        scale = self.options.cfg_scale
        if scale == 1:
            return self.call(x, t, self.cond, self.hint)
        if self.options.batched:
            both = torch.cat([self.cond, self.uncond])
            twice = self.call(x.repeat(2, 1, 1, 1), t, both, self.hint.repeat(2, 1, 1, 1))
            cond, uncond = twice.chunk(2)
        else:
            cond = self.call(x, t, self.cond, self.hint)
            uncond = self.call(x, t, self.uncond, self.hint)
        return uncond + scale * (cond - uncond)


@torch.inference_mode()
def restore(modules: Modules, lq: Tensor, options: Options) -> tuple[dict[str, Tensor], Any]:
    """`lq` [1,3,H,W] in [0,1] -> intermediate results by the program's names, and seconds."""
    clock, stages, seconds = Clock(lq.device), {}, []
    nets = modules.networks
    clock.lap()
    stage1 = nets["cleaner"](lq)
    stages["cleaner"] = clock.lap()
    c_img = nets["vae_encoder"](stage1 * 2 - 1)
    if options.cfg_scale != 1 and not options.batched:
        c_img = nets["vae_encoder"](stage1 * 2 - 1)  # as the reference does for the negative prompt
    stages["vae_encoder"] = clock.lap()
    generator = torch.Generator().manual_seed(options.seed)
    hint = c_img.expand(options.samples, -1, -1, -1)
    x_t = torch.randn(hint.shape, generator=generator).to(lq.device)
    model = Denoiser(modules, hint, options)
    z = sampler.sample(
        model, modules.diffusion, options.steps, x_t, generator, lambda: seconds.append(clock.lap())
    )
    decoded = nets["vae_decoder"](z)
    stages["vae_decoder"] = clock.lap()
    stages["sampling"] = sum(seconds)
    record = {"whole": sum(stages.values()), "stages": stages, "steps": seconds}
    tensors = {"stage1": stage1, "c_img": c_img, "x_t": x_t, "z": z, "decoded": decoded}
    return tensors, record
