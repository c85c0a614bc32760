"""Triples of degraded crop, clean crop and the teacher's picture: computed once, kept in shards.

    nice -n 19 python -m train.targets --data DIR --count 8000

Shard k is a function of the seed, k and the pictures at hand, and is written whole or not at all:
stop and start it as you like. A training takes the shards that are finished when it starts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import pictures
from .data import Crops, degraded_small, generator, triples
from .teacher import Teacher

SHARD = 16
"""Triples of a shard."""
EDGE = 256
"""Of clean crops and of the teacher's pictures."""
SEED = 0


def folder(data: Path) -> Path:
    """Where the shards lie."""
    return data / "targets"


def drawn(crops: Crops, number: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """One shard's degraded crops u8 [N,64,64,3] and clean ones [N,256,256,3]."""
    rng = generator(seed, "targets", number)
    clean = crops.clean(SHARD, EDGE, rng)
    return np.stack([degraded_small(crop, rng) for crop in clean]), clean


_crops: Crops | None = None


def _open(data: Path) -> None:
    global _crops
    _crops = Crops(list(pictures.load(data, "train").values()))


def _open_process(data: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _open(data)


def _drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    return drawn(_crops, number)


def every(data: Path, paths: list[Path], workers: int) -> Iterator[tuple[Path, Any]]:
    """The shards' crops, drawn here or in processes, which a GPU needs to be kept busy."""
    numbers = [int(path.stem) for path in paths]
    if not workers:
        _open(data)
        yield from zip(paths, map(_drawn, numbers), strict=True)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_process, (data,)) as pool:
        try:
            yield from zip(paths, pool.map(_drawn, numbers), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def write(path: Path, shard: np.ndarray) -> None:
    """Writes a shard whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, shard)
    temporary.replace(path)


def missing(data: Path, count: int) -> Iterator[Path]:
    """The shards to be made until there are `count` triples."""
    for number in range(-(-count // SHARD)):
        path = folder(data) / f"{number:05}.npy"
        if not path.exists():
            yield path


def note(data: Path, path: Path) -> None:
    """Writes down which choice of pictures a shard was drawn from."""
    with (folder(data) / "shards.jsonl").open("a") as file:
        row = {"shard": path.name, "choice": pictures.digest(),
               "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}  # fmt: skip
        file.write(json.dumps(row) + "\n")


def main() -> None:
    """Makes shards until there are enough or a signal comes."""
    parser = argparse.ArgumentParser(prog="train.targets", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=8000, help="triples (default: 8000)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw crops")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    pictures.ensure(args.data)
    folder(args.data).mkdir(parents=True, exist_ok=True)
    teach = Teacher(args.data, args.device)
    shards = every(args.data, list(missing(args.data, args.count)), args.workers)
    for path, (low, clean) in shards:
        write(path, triples(low, clean, teach(low)))
        note(args.data, path)
        print(path.name, flush=True)
        if stop:
            break
    shards.close()


if __name__ == "__main__":
    main()
