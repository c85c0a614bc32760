"""What the finished networks sample for degraded crops: the decoder is sharpened on it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import Batch
from .latents import Encoder, squares
from .networks import Sampler

STEPS = (5, 10)
"""Sampling steps, each for a share of the chunks."""
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class Samples:
    """The teacher's and cleaned crops u8 [N,3,H,W]; latents [N,4,H/8,W/8], unscaled, of the
    teacher's and as sampled for the degraded ones."""

    taught: Tensor
    cleaned: Tensor
    encoded: Tensor
    sampled: Tensor

    def draw(self, count: int, edge: int, rng: np.random.Generator) -> Drawn:
        """`count` squares of `edge` pixels, a multiple of 8, in the order of the fields."""
        parts = (self.taught, self.cleaned, self.encoded, self.sampled)
        return squares(parts, count, edge // 8, rng)


class Maker:
    """Samples for chunks of crops; the noise is a function of the crops."""

    def __init__(self, encoder: Encoder, samplers: list[Sampler]) -> None:
        self.encoder, self.samplers = encoder, samplers

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Drawn:
        """The fields of `Samples` for degraded, clean and taught crops u8 [N,H,W,3]."""
        seed = zlib.crc32(batch[0].tobytes())
        device = self.encoder.device
        with torch.autocast(device, torch.bfloat16):
            pictures = self.encoder.pictures(batch)
            encoded, hint = (self.encoder.vae.encode(x * 2 - 1).float() for x in pictures)
            g = torch.Generator("cpu").manual_seed(seed)
            noise = torch.randn(hint.shape, generator=g, device="cpu").to(device)
            sampled = self.samplers[seed % len(self.samplers)].sample(hint, noise, g)
        taught, cleaned = ((x * 255).round().byte().cpu() for x in pictures)
        return taught, cleaned, encoded.cpu(), sampled.cpu()
