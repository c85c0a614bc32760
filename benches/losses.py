"""What an approximation loses against the exact result, in the latent and in the picture.

    python benches/losses.py --bundle onnx/diffbir-v2 --steps 10 --set sampling.deep_reuse=0.4 \
        --set 'sampling.cfg_interval=[200, 800]' --bundle-too onnx/diffbir-v2-fp16

Each setting, and each other bundle of the same weights, restores the same picture with the same
noise in a process of its own, one after the other. Last comes the exact run once more: how far its
time is from the first one's tells how quiet the machine was.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import markdown
from turns import ChildError, add_program, program

HERE = Path(__file__).resolve().parent


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="losses.py", description=__doc__.split("\n")[0])
    add_program(p)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                   help="a setting to try; several in one with `;` between them")  # fmt: skip
    p.add_argument("--bundle-too", action="append", type=Path, default=[], metavar="DIR",
                   help="another bundle of the same weights, run exactly")  # fmt: skip
    return p


@dataclass
class Result:
    """One run: seconds of a step and of the whole, the latent, the picture in [0,1]."""

    step: float
    whole: float
    z: np.ndarray
    picture: np.ndarray


def run(args: argparse.Namespace, bundle: Path, settings: list[str], file: Path) -> Result:
    """Restores once to load everything and once to be timed."""
    from safetensors.numpy import load_file

    flags = ["--tensors", file, "--steps", args.steps]
    for flag, value in (("--size", args.size), ("--cfg-scale", args.cfg_scale)):
        flags += [flag, value] if value is not None else []
    for setting in settings:
        flags += ["--set", setting]
    with program(args, bundle, *flags) as child:
        timed = child.ask("run")
    found = load_file(file)
    step = float(np.mean(timed["steps"]))
    return Result(step, timed["whole"], found["z"], found["color_fixed"])


def row(name: str, found: Result, exact: Result) -> list[str]:
    """Times, their ratio, and how far the results are from the exact ones."""
    latent = np.sqrt(np.mean((found.z - exact.z) ** 2) / np.mean(exact.z**2))
    error = np.mean((found.picture.clip(0, 1) - exact.picture.clip(0, 1)) ** 2)
    db = f"{-10 * np.log10(error):.1f}" if error else "same"
    return [name, f"{found.step:.2f}", f"{exact.step / found.step:.2f}", f"{found.whole:.2f}",
            f"{latent:.1e}", db]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    args = parser().parse_args(arguments)
    tried = [(setting, args.bundle, setting.split(";")) for setting in args.set]
    tried += [(bundle.name, bundle, []) for bundle in args.bundle_too]
    tried.append(("exact, again", args.bundle, []))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tensors.safetensors"
        try:
            exact = run(args, args.bundle, [], file)
            rows.append(row("exact", exact, exact))
            for name, bundle, settings in tried:
                rows.append(row(name, run(args, bundle, settings, file), exact))
                print(*rows[-1], flush=True)
        except ChildError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    head = ["", "step s", "speed-up", "whole s", "latent, relative RMS", "PSNR to exact, dB"]
    print("\n" + markdown.table(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
