"""The latents that UNet and control module are trained on, encoded once and kept in the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import Batch, Crops, generator
from .networks import VAE

CHUNK = 16


@dataclass
class Pool:
    """Latents of clean crops and of their cleaned degraded versions, f32 [N,4,h,w]."""

    latents: Tensor
    hints: Tensor

    def factor(self) -> float:
        """What brings the latents to unit standard deviation."""
        return float(f"{1 / self.latents.std().item():.5g}")

    def scaled(self, factor: float) -> Pool:
        """The same times `factor`."""
        return Pool(self.latents * factor, self.hints * factor)

    def draw(self, count: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """`count` pairs of squares of `side` cells, drawn with replacement."""
        chosen = []
        for item in rng.integers(len(self.latents), size=count):
            y, x = (int(rng.integers(s - side + 1)) for s in self.latents.shape[2:])
            chosen.append((item, slice(None), slice(y, y + side), slice(x, x + side)))
        return tuple(torch.stack([part[i] for i in chosen]) for part in (self.latents, self.hints))


@dataclass
class Encoder:
    """Crops to latents with the finished autoencoder and cleaner."""

    vae: VAE
    cleaner: torch.nn.Module
    device: str

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unscaled modes of the clean crops and of the cleaner's output."""
        clean, low = (
            torch.from_numpy(b).to(self.device).permute(0, 3, 1, 2).float() / 255 for b in batch
        )
        hint = self.cleaner(low).clamp(0, 1)
        return tuple(self.vae.encode(x * 2 - 1).cpu() for x in (clean, hint))


@dataclass(frozen=True)
class ChunkSampler:
    """The crops of one chunk."""

    size: int
    seed: int

    def __call__(self, crops: Crops, chunk: int) -> Batch:
        """Clean and degraded crops."""
        return crops.pairs(CHUNK, self.size, generator(self.seed, "pool", chunk))


@dataclass
class Limit:
    """When a pool is large enough: a number of chunks, or seconds of this run."""

    chunks: int
    seconds: float
    stop: Callable[[], bool]


def fill(folder: Path, encode: Encoder, batches: Callable, limit: Limit) -> None:
    """Writes the chunks that `folder` lacks; `batches` gives those from a number on."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    have = len(list(folder.glob("*.pt")))
    for number, batch in zip(range(have, limit.chunks), batches(have), strict=False):
        if limit.stop():
            return
        if number > 1 and time.monotonic() - started > limit.seconds:
            break
        temporary = folder / "chunk.tmp"
        torch.save(encode(batch), temporary)
        temporary.rename(folder / f"{number:05}.pt")
    (folder / "finished").touch()


def finished(folder: Path) -> bool:
    """Whether a pool is complete: it must not grow once a stage has measured its scale."""
    return (folder / "finished").is_file()


def load(folder: Path) -> Pool:
    """The pool, unscaled."""
    chunks = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]
    return Pool(*(torch.cat(part) for part in zip(*chunks, strict=True)))
