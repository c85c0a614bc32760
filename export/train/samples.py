"""What the finished networks sample for degraded crops: the decoder is sharpened on it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import Batch
from .networks import VAE, Sampler

STEPS = (5, 10)
"""Sampling steps, each for a share of the chunks."""
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class Samples:
    """Clean and cleaned crops u8 [N,3,H,W]; latents [N,4,H/8,W/8], unscaled, of the clean ones and
    as sampled for the degraded ones."""

    clean: Tensor
    cleaned: Tensor
    encoded: Tensor
    sampled: Tensor

    def draw(self, count: int, edge: int, rng: np.random.Generator) -> Drawn:
        """`count` squares of `edge` pixels, a multiple of 8, in the order of the fields."""
        parts = (self.clean, self.cleaned, self.encoded, self.sampled)
        chosen = [[] for _ in parts]
        height, width = self.sampled.shape[2:]
        for item in rng.integers(len(self.clean), size=count):
            top, left = (int(rng.integers(side - edge // 8 + 1)) for side in (height, width))
            for part, squares in zip(parts, chosen, strict=True):
                scale = part.shape[2] // height
                side = edge * scale // 8
                y, x = top * scale, left * scale
                squares.append(part[item, :, y : y + side, x : x + side])
        return tuple(torch.stack(squares) for squares in chosen)


class Maker:
    """Samples for chunks of crops; the noise is a function of the crops."""

    def __init__(self, vae: VAE, samplers: list[Sampler], device: str) -> None:
        self.vae, self.samplers, self.device = vae, samplers, device

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Drawn:
        """The fields of `Samples` for clean and degraded crops u8 [N,H,W,3]."""
        seed = zlib.crc32(batch[0].tobytes())
        clean, low = (
            torch.from_numpy(b).to(self.device).permute(0, 3, 1, 2).float() / 255 for b in batch
        )
        sampler = self.samplers[seed % len(self.samplers)]
        cleaned = sampler.cleaner(low).clamp(0, 1)
        encoded, hint = (self.vae.encode(x * 2 - 1) for x in (clean, cleaned))
        g = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(hint.shape, generator=g, device="cpu").to(self.device)
        sampled = sampler.sample(hint, noise, g)
        pictures = ((x * 255).round().byte().cpu() for x in (clean, cleaned))
        return *pictures, encoded.cpu(), sampled.cpu()


def load(folder: Path) -> Samples:
    """All chunks of a folder."""
    chunks = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]
    return Samples(*(torch.cat(part) for part in zip(*chunks, strict=True)))
