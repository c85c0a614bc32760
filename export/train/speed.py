"""Measures what the program's presets of speed lose on the demo bundle, and what they gain.

    python -m train.speed --diffbir ../target/release/diffbir --bundle ../onnx/demo \
        --data RUN/data --out ../docs/speed.md

The validation pictures, degraded as `train.validate` does, are restored by every preset in turn,
so that what a busy machine does to one it does to all. A bundle with graphs in int8 is run with
them too. `--set` gives other settings to compare, such as `--set sampling.deep_reuse=0.6`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffbir_export import bundle

from . import pictures
from .evaluate import SCALE, Case, insert, program_parser, read, write_low
from .metrics import gmsd, psnr
from .validate import cases

Metric = Callable[[np.ndarray, np.ndarray], float]

PRESETS = ("exact", "balanced", "fast")
STEPS = (50, 20, 10)


@dataclass
class Run:
    """One setting on all pictures."""

    flags: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    """Of the sampler's loop, picture by picture."""
    found: list[np.ndarray] = field(default_factory=list)


def restore(args: argparse.Namespace, folder: Path, number: int, flags: tuple[str, ...]) -> float:
    """Restores one picture; returns the seconds that the sampler's loop took."""
    out = folder / "out"
    command = [args.diffbir, "restore", folder / "low" / f"{number:03}.png", "-o",
               out / f"{number:03}.png", "--bundle", args.bundle, "--json", "--overwrite",
               "--upscale", str(SCALE), *flags]  # fmt: skip
    out.mkdir(exist_ok=True)
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return next(line["seconds"]["sampling"] for line in lines if line.get("event") == "picture")


def measure(args: argparse.Namespace, all_cases: list[Case], runs: dict[str, Run]) -> None:
    """Fills the runs, picture by picture and setting by setting."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_low(folder, all_cases)
        for number in range(len(all_cases)):
            for run in runs.values():
                run.seconds.append(restore(args, folder, number, run.flags))
                run.found.append(read(folder / "out", number))


def has_int8(folder: Path) -> bool:
    """Whether a bundle has graphs in int8."""
    graphs = bundle.read(folder)["graphs"].values()
    return any(variant["precision"] == "int8" for g in graphs for variant in g["variants"])


def settings(args: argparse.Namespace, steps: int) -> dict[str, Run]:
    """What is compared, by its name in the table."""
    common = ("--steps", str(steps))
    runs = {name: Run((*common, "--speed", name)) for name in PRESETS}
    if has_int8(args.bundle):
        int8 = ("--set", "runtime.int8=true")
        runs |= {"int8": Run((*common, *int8)),
                 "balanced, int8": Run((*common, "--speed", "balanced", *int8))}  # fmt: skip
    return runs | {name: Run((*common, "--set", name)) for name in args.set}


def mean(metric: Metric, found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Of the pairs."""
    return float(np.mean([metric(a, b) for a, b in zip(found, truth, strict=True)]))


def line(name: str, run: Run, exact: Run, all_cases: list[Case]) -> str:
    """A row of the table."""
    truth = [case.truth for case in all_cases]
    ratio = np.median(np.array(exact.seconds) / np.array(run.seconds))
    quality, loss = mean(gmsd, run.found, truth), mean(gmsd, exact.found, truth)
    db = mean(psnr, run.found, truth)
    same = run is exact
    cells = [
        name,
        f"{ratio:.2f}",
        "" if same else f"{mean(psnr, run.found, exact.found):.1f}",
        f"{db:.2f}",
        "" if same else f"{db - mean(psnr, exact.found, truth):+.2f}",
        f"{quality:.4f}",
        "" if same else f"{100 * (quality / loss - 1):+.1f} %",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| | speed-up of sampling | PSNR to exact, dB | PSNR | ΔPSNR | GMSD | ΔGMSD |\n"
    "|---|---|---|---|---|---|---|\n"
)


def main() -> None:
    """Writes the tables."""
    parser = program_parser("speed", __doc__, STEPS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    pictures.ensure(args.data)
    all_cases = cases(args.data)[: args.limit]
    text = f"{len(all_cases)} pictures, {SCALE}x, means; speed-ups as medians of ratios.\n"
    for steps in args.steps:
        runs = settings(args, steps)
        measure(args, all_cases, runs)
        rows = [line(name, run, runs["exact"], all_cases) for name, run in runs.items()]
        text += f"\n{steps} steps:\n\n{HEAD}" + "\n".join(rows) + "\n"
    insert(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
