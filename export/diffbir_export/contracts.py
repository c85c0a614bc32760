"""The graphs' interfaces: names, shapes, dynamic axes, and inputs to export and verify them with.

Names and shapes are the bundle's contract with the engine; every N, H and W is dynamic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from .config import CONTROL_OUTPUTS, ArchConfig
from .models.control import skip_channels

CONTROLS = tuple(f"control_{i}" for i in range(CONTROL_OUTPUTS))
DENOISER_INPUTS = ("x", "timestep", "context", "hint", "strength")

INPUTS = {
    "cleaner": ("image",),
    "vae_encoder": ("image",),
    "vae_decoder": ("latent",),
    "vae_decoder_vjp": ("latent", "cotangent"),
    "text_encoder": ("token_ids",),
    "denoiser": DENOISER_INPUTS,
    "control": DENOISER_INPUTS,
    "unet": ("x", "timestep", "context", *CONTROLS),
}
OUTPUTS = {
    "cleaner": ("clean",),
    "vae_encoder": ("latent",),
    "vae_decoder": ("image",),
    "vae_decoder_vjp": ("image", "gradient"),
    "text_encoder": ("context",),
    "denoiser": ("output",),
    "control": CONTROLS,
    "unet": ("output",),
}


# diffusers' upsampler branches on batches of 64 and more (to the same result); without the bound
# the tracer would find that out late and start again.
DIM_N = Dim("N", min=1, max=63)


@dataclass(frozen=True)
class Contract:
    """One graph's interface and the sizes it is verified at."""

    kind: str
    multiple: int
    scale: float
    config: ArchConfig
    sizes: tuple[tuple[int, int], ...] = field(default=((64, 64), (128, 192)))
    halo: int | None = None
    """Input pixels further away have no influence on an output pixel; for cleaners, if known."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Input names in order."""
        return INPUTS[self.kind]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Output names in order."""
        return OUTPUTS[self.kind]

    def control_shapes(self) -> list[tuple[int, int]]:
        """Channels and downscale factor of each control tensor."""
        config = self.config.control
        per_level = config.num_res_blocks + 1
        channels = skip_channels(config)
        last = len(channels) - 1
        shapes = [(c, 2 ** (i // per_level)) for i, c in enumerate(channels)]
        return [*shapes, shapes[last]]

    def example(self, batch: int, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
        """Seeded inputs with the values' usual ranges."""
        g = torch.Generator().manual_seed(seed)
        size = (height, width)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g)

        config, channels = self.config, self.config.unet.in_channels
        makers = {
            "image": lambda: (
                torch.rand((batch, 3, *size), generator=g)
                * (2 if self.kind == "vae_encoder" else 1)
                - (1 if self.kind == "vae_encoder" else 0)
            ),
            "latent": lambda: normal(batch, channels, *size),
            "cotangent": lambda: normal(
                batch, config.vae.out_ch, *(side * config.vae.downscale for side in size)
            ),
            "token_ids": lambda: torch.randint(
                0, config.text.vocab_size, (batch, config.text.context_length), generator=g
            ),
            "x": lambda: normal(batch, channels, *size),
            # Fractional: some solvers ask for noise levels between two trained ones.
            "timestep": lambda: torch.linspace(999.0, 199.2, batch),
            "context": lambda: normal(batch, config.text.context_length, config.text.width),
            "hint": lambda: normal(batch, channels, *size),
            "strength": lambda: torch.linspace(0.5, 1.2, CONTROL_OUTPUTS),
        }
        for name, (c, down) in zip(CONTROLS, self.control_shapes(), strict=True):
            shape = (batch, c, height // down, width // down)
            makers[name] = lambda shape=shape: normal(*shape)
        return {name: makers[name]() for name in self.inputs}

    def cases(self) -> list[tuple[int, int, int]]:
        """Batch, height and width of each verification run: two sizes, two batch sizes."""
        return [(batch, *size) for size in self.sizes for batch in (1, 2)]

    def dynamic_shapes(self) -> dict[str, Any]:
        """`torch.export`'s description of the dynamic axes."""
        n, h, w = DIM_N, Dim("H", min=1, max=2**14), Dim("W", min=1, max=2**14)
        if self.multiple > 1:
            h, w = self.multiple * h, self.multiple * w
        shapes: dict[str, Any] = {name: {0: n, 2: h, 3: w} for name in self.inputs}
        for name in self.inputs:
            if name in ("timestep", "context", "token_ids"):
                shapes[name] = {0: n}
            elif name == "strength":
                shapes[name] = {}
            elif name == "cotangent":
                down = self.config.vae.downscale
                shapes[name] = {0: n, 2: down * h, 3: down * w}
        if self.kind == "unet":
            shapes |= self.control_dynamics(n)
        return shapes

    def control_dynamics(self, n: Any) -> dict[str, Any]:
        """Axes of `unet`'s inputs: each level's size is a multiple of the coarsest one's."""
        h, w = Dim("H", min=1, max=2**14), Dim("W", min=1, max=2**14)
        coarsest = max(down for _, down in self.control_shapes())
        axes = {}
        for down in {down for _, down in self.control_shapes()}:
            factor = coarsest // down
            axes[down] = {0: n, 2: factor * h, 3: factor * w} if factor > 1 else {0: n, 2: h, 3: w}
        controls = {
            name: axes[down]
            for name, (_, down) in zip(CONTROLS, self.control_shapes(), strict=True)
        }
        return {"x": axes[1], **controls}
