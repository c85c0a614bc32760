"""Training crops: a batch is a function of the seed and the step, so resuming needs no state."""

from __future__ import annotations

import signal
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffbir_export.degrade import PRESETS, degrade

SCALE = 4
TRAINED_ON = ("demo", "evaluation", "evaluation")
"""What a crop is degraded with, one of these at random: a wide one, and the narrower one that is
measured on."""
SMALLEST = 0.15
"""A crop is taken from the picture shrunk by a factor between this and 1."""

Batch = tuple[np.ndarray, ...]


def to_tensor(pictures: np.ndarray, device: str) -> torch.Tensor:
    """u8 [N,H,W,3] -> f32 [N,3,H,W] in [0,1]."""
    tensor = torch.from_numpy(pictures).to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).float().div(255)


def generator(seed: int, name: str, step: int) -> np.random.Generator:
    """A generator of its own for every use and step."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), step])


class Crops:
    """Draws square crops of pictures u8 [H,W,3], larger pictures more often."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.pictures = pictures
        area = np.array([p.shape[0] * p.shape[1] for p in pictures], np.float64)
        self.weights = np.sqrt(area) / np.sqrt(area).sum()

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A crop [size,size,3]: random picture, place, shrinking, mirroring, quarter turn."""
        picture = self.pictures[rng.choice(len(self.pictures), p=self.weights)]
        short = min(picture.shape[:2])
        factor = max(SMALLEST ** rng.random(), min(1.0, size / short))
        edge = min(short, round(size / factor))
        top, left = (int(rng.integers(side - edge + 1)) for side in picture.shape[:2])
        crop = picture[top : top + edge, left : left + edge]
        if edge != size:
            image = Image.fromarray(crop)
            crop = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(np.rot90(crop, int(rng.integers(4))))

    def clean(self, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crops u8 [N,size,size,3]."""
        return np.stack([self.draw(size, rng) for _ in range(count)])


def degraded_small(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop degraded to a quarter of its size with one of the presets."""
    return degrade(crop, PRESETS[TRAINED_ON[int(rng.integers(len(TRAINED_ON)))]], rng, SCALE)


def enlarged(small: np.ndarray) -> np.ndarray:
    """What the cleaner sees of a degraded picture: enlarged by bicubic."""
    size = (small.shape[1] * SCALE, small.shape[0] * SCALE)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


PARTS = ("low", "clean", "taught")
OVER = 64
"""Pixels that a crop's place is drawn beyond the picture's borders before it is moved inside: so
borders are seen as often as in whole pictures."""


def triples(low: np.ndarray, clean: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """A shard: an array [N] of one record a triple, from its parts u8 [N,h,w,3]."""
    parts = dict(zip(PARTS, (low, clean, taught), strict=True))
    result = np.empty(len(low), [(name, np.uint8, part.shape[1:]) for name, part in parts.items()])
    for name, part in parts.items():
        result[name] = part
    return result


class Taught:
    """Triples of `low` u8 [h,w,3] and, SCALE times as large, `clean` and the teacher's `taught`."""

    def __init__(self, shards: list[np.ndarray]) -> None:
        self.shards = shards
        self.ends = np.cumsum([len(shard) for shard in shards])

    @classmethod
    def load(cls, files: list[Path]) -> Taught:
        """All shards' triples, left on disk until they are drawn."""
        return cls([np.load(file, mmap_mode="r") for file in files])

    def __len__(self) -> int:
        """Of all shards together."""
        return int(self.ends[-1])

    def triple(self, number: int) -> list[np.ndarray]:
        """The parts of one triple."""
        shard = int(np.searchsorted(self.ends, number, "right"))
        record = self.shards[shard][number - self.ends[shard]]
        return [np.asarray(record[part]) for part in PARTS]

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """The enlarged degraded crop, the clean and the taught one, u8 [size,size,3] each: random
        triple, place, mirroring, quarter turn."""
        low, *large = self.triple(int(rng.integers(len(self))))
        parts = (enlarged(low), *large)
        spans = [side - size for side in parts[0].shape[:2]]
        top, left = (min(max(int(rng.integers(-OVER, s + OVER + 1)), 0), s) for s in spans)
        flip, turns = rng.random() < 0.5, int(rng.integers(4))
        crops = (part[top : top + size, left : left + size] for part in parts)
        return tuple(np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in crops)

    def batch(self, count: int, size: int, rng: np.random.Generator) -> Batch:
        """Enlarged degraded, clean and taught crops, u8 [N,size,size,3] each."""
        drawn = zip(*(self.draw(size, rng) for _ in range(count)), strict=True)
        return tuple(np.stack(part) for part in drawn)


def shards(data: Path) -> list[Path]:
    """The finished shards of triples, in order."""
    return sorted((data / "targets").glob("[0-9]*.npy"))


Sampler = Callable[[Taught, int], Batch]

_taught: Taught | None = None


def _open(data: Path) -> None:
    global _taught
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _taught = Taught.load(shards(data))


def _sample(sampler: Sampler, step: int) -> Batch:
    return sampler(_taught, step)


class Loader:
    """Makes batches ahead: in a thread, or in `workers` processes that read the shards anew."""

    def __init__(self, taught: Taught, data: Path | None = None, workers: int = 0) -> None:
        self.taught, self.ahead, self.workers = taught, max(2, 2 * workers), workers
        if workers and data is None:
            raise ValueError("processes need the folder of the shards")
        self.pool: Executor = (
            ProcessPoolExecutor(workers, get_context("spawn"), _open, (data,))
            if workers
            else ThreadPoolExecutor(1)
        )

    def batches(self, sampler: Sampler, first: int) -> Iterator[Batch]:
        """Batches of the steps from `first` on."""
        call, source = (_sample, ()) if self.workers else (sampler, (self.taught,))
        queue = []
        step = first
        try:
            while True:
                while len(queue) < self.ahead:
                    args = (sampler, step) if self.workers else (*source, step)
                    queue.append(self.pool.submit(call, *args))
                    step += 1
                yield queue.pop(0).result()
        finally:
            for future in queue:
                future.cancel()

    def close(self) -> None:
        """Ends threads or processes."""
        self.pool.shutdown(cancel_futures=True)
