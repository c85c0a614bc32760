"""The latents that UNet and control module are trained on, encoded once and kept in the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import Batch, Taught, generator, to_tensor
from .networks import VAE

CHUNK = 16


def squares(
    parts: tuple[Tensor, ...], count: int, side: int, rng: np.random.Generator
) -> tuple[Tensor, ...]:
    """`count` squares of each part [N,C,h*k,w*k], `side`*k wide, from the same items and places.

    [h,w] is the size of the last part.
    """
    height, width = parts[-1].shape[2:]
    chosen = [[] for _ in parts]
    for item in rng.integers(len(parts[-1]), size=count):
        top, left = (int(rng.integers(size - side + 1)) for size in (height, width))
        for part, found in zip(parts, chosen, strict=True):
            k = part.shape[2] // height
            rows, columns = (slice(k * start, k * (start + side)) for start in (top, left))
            found.append(part[item, :, rows, columns])
    return tuple(torch.stack(found) for found in chosen)


@dataclass
class Pool:
    """Latents of the teacher's crops and of the cleaned degraded ones, f32 [N,4,h,w]."""

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
        return squares((self.latents, self.hints), count, side, rng)


@dataclass
class Encoder:
    """Crops to latents with the finished autoencoder and cleaner."""

    vae: VAE
    cleaner: torch.nn.Module
    device: str

    def pictures(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's crops and the cleaner's output, [N,3,H,W] in [0,1]."""
        low, _, taught = (to_tensor(part, self.device) for part in batch)
        return taught, self.cleaner(low).float().clamp(0, 1)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unscaled modes of the teacher's crops and of the cleaner's output."""
        with torch.autocast(self.device, torch.bfloat16):
            return tuple(self.vae.encode(x * 2 - 1).float().cpu() for x in self.pictures(batch))


@dataclass(frozen=True)
class ChunkSampler:
    """The crops of one chunk."""

    size: int
    seed: int

    def __call__(self, taught: Taught, chunk: int) -> Batch:
        """Degraded, clean and taught crops."""
        return taught.batch(CHUNK, self.size, generator(self.seed, "pool", chunk))


@dataclass
class Limit:
    """When a pool is large enough: a number of chunks, or seconds of this run by `clock`."""

    chunks: int
    seconds: float
    stop: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic


def fill(folder: Path, encode: Encoder, batches: Callable, limit: Limit) -> None:
    """Writes the chunks that `folder` lacks; `batches` gives those from a number on."""
    folder.mkdir(parents=True, exist_ok=True)
    started = limit.clock()
    have = len(list(folder.glob("*.pt")))
    for number, batch in zip(range(have, limit.chunks), batches(have), strict=False):
        if limit.stop():
            return
        if number > 1 and limit.clock() - started > limit.seconds:
            break
        temporary = folder / "chunk.tmp"
        torch.save(encode(batch), temporary)
        temporary.rename(folder / f"{number:05}.pt")
    (folder / "finished").touch()


def finished(folder: Path) -> bool:
    """Whether a pool is complete: it must not grow once a stage has measured its scale."""
    return (folder / "finished").is_file()


def load(folder: Path) -> tuple[Tensor, ...]:
    """All chunks of a folder, each part of theirs as one tensor."""
    chunks = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]
    return tuple(torch.cat(part) for part in zip(*chunks, strict=True))
