"""`python -m diffbir_export.quantize BUNDLE --pictures DIR`: adds int8 variants, in place.

The engine takes them where its option `runtime.int8` asks for them, and never by itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from .. import bundle, in_place
from ..bands import Arrays
from ..errors import UsageError
from ..onnx_parts import Source
from . import latents, make
from .latents import Records

KINDS = ("denoiser", "vae_decoder")
LOSS = 0.02
PICTURES = 8
STEPS = 6
APART = 4
"""Every so manieth picture is set apart to measure the loss on."""


def split(of_pictures: list[list[Arrays]]) -> Records:
    """Runs for ranges, and those of pictures set apart; of a single picture both."""
    if len(of_pictures) == 1:
        return Records(of_pictures[0], of_pictures[0])
    result = Records([], [])
    for number, runs in enumerate(of_pictures):
        (result.checks if number % APART == 1 else result.runs).extend(runs)
    return result


def record(folder: Path, document: dict[str, Any], args: argparse.Namespace) -> dict[str, Records]:
    """Kind of graph -> what it gets to see."""
    found = latents.pictures(args.pictures, args.limit)
    inputs, sampled = latents.Pipeline(folder, document, args.steps).run(found)
    return {
        "denoiser": split(inputs),
        "vae_decoder": split([[{"latent": latent}] for latent in sampled]),
    }


def candidates(document: dict[str, Any], graphs: list[str]) -> list[dict[str, Any]]:
    """The graphs that may have an int8 variant."""
    return [
        entry
        for entry in document["graphs"].values()
        if entry["kind"] in graphs and entry["precision"] == "fp32"
    ]


def quantise(folder: Path, args: argparse.Namespace, log: make.Log) -> bool:
    """Adds the int8 variants that a bundle lacks; whether there was anything to add."""
    document = bundle.read(folder)
    entries = candidates(document, args.graph)
    if not entries:
        raise UsageError(f"{folder}: has no graph in fp32 of kind {' or '.join(args.graph)}")
    if inline := [e["file"] for e in entries if Source(folder / e["file"]).inline]:
        raise UsageError(
            f"{folder}: {' and '.join(inline)} hold their weights themselves: "
            f"python -m diffbir_export.variants {folder} puts them beside"
        )
    wanted = [entry for entry in entries if not make.current(folder, entry, args.loss)]
    if not wanted:
        return False
    records = record(folder, document, args)
    with tempfile.TemporaryDirectory(prefix=".int8.", dir=folder) as name:
        new = Path(name)
        for entry in wanted:
            made = make.write(folder, new, entry, records[entry["kind"]], args.loss, log)
            others = [v for v in entry["variants"] if v["precision"] != make.PRECISION]
            # Last: engines that know nothing of int8 take the first that fits.
            entry["variants"] = [*others, made]
        bundle.replace(folder, new, document)
    return True


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = in_place.parser(
        "diffbir_export.quantize",
        "Adds to a bundle int8 variants of its denoiser and VAE decoder for the CPU.",
    )
    p.add_argument("--pictures", type=Path, required=True, metavar="DIR",
                   help="low-quality pictures, like those that it will restore")  # fmt: skip
    p.add_argument("--limit", type=int, default=PICTURES, metavar="N",
                   help=f"how many of them, by name (default: {PICTURES})")  # fmt: skip
    p.add_argument("--loss", type=float, default=LOSS, metavar="X",
                   help="relative RMS that a graph's output may be off by "
                        f"(default: {LOSS})")  # fmt: skip
    p.add_argument("--graph", nargs="+", choices=KINDS, default=list(KINDS),
                   help="which graphs (default: all)")  # fmt: skip
    p.add_argument("--steps", type=int, default=STEPS, metavar="N",
                   help=f"sampling steps for each picture (default: {STEPS})")  # fmt: skip
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code, as `cli.py` describes it."""
    p = parser()
    args = p.parse_args(arguments)
    if args.limit < 1 or args.steps < 2 or not args.loss > 0:
        p.error("--limit is at least 1, --steps at least 2, --loss above 0")
    return in_place.run(lambda folder, log: quantise(folder, args, log), args.bundle, "variants")


if __name__ == "__main__":
    sys.exit(main())
