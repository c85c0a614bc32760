"""The command line: parses, calls `build`, turns errors into exit codes.

Exit codes: 0 done, 1 a graph failed its verification or could not be written, 2 wrong usage,
3 wrong content of a configuration or checkpoint file, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .errors import ExportError, UsageError, tell
from .families import FAMILIES, TASKS

ROLE_NAMES = ("sd", "control", *(f"cleaner.{task}" for task in TASKS))


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raises instead of printing the whole usage."""
        raise UsageError(message)


def parser() -> Parser:
    """All flags."""
    p = Parser(prog="diffbir_export", description="Exports DiffBIR checkpoints to an ONNX bundle.")
    p.add_argument("--family", required=True, choices=FAMILIES, help="generation of the models")
    p.add_argument(
        "--arch-config",
        type=Path,
        metavar="DIR",
        help="folder with cldm.yaml, swinir.yaml, …; default: the official sizes",
    )
    p.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="ROLE=FILE",
        help=f"checkpoints; roles: {', '.join(ROLE_NAMES)}",
    )
    p.add_argument(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="seeded random weights instead of checkpoints",
    )
    p.add_argument(
        "--tasks",
        metavar="TASK,…",
        help="with --random-weights: tasks to make cleaners for (default: sr)",
    )
    p.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="what the graphs compute in (default: fp32)",
    )
    p.add_argument(
        "--weights-storage",
        choices=("fp32", "fp16"),
        default=None,
        help="what fp32 graphs store their matrices as (default: fp32)",
    )
    p.add_argument(
        "--min-short-edge",
        type=int,
        default=512,
        metavar="N",
        help="pictures are enlarged to this before restoring (default: 512)",
    )
    p.add_argument("--split", action="store_true", help="also write control.onnx and unet.onnx")
    p.add_argument(
        "--guidance-graph",
        action="store_true",
        help="also write vae_decoder_vjp.onnx, for restoration guidance in RGB",
    )
    p.add_argument(
        "--no-text-encoder",
        action="store_true",
        help="write neither text_encoder.onnx nor tokenizer.json",
    )
    p.add_argument(
        "--no-variants",
        action="store_true",
        help="do not write the graphs' variants for the CPU provider",
    )
    p.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the bundle at --out; other files there stay",
    )
    p.add_argument(
        "--trained",
        action="store_true",
        help="note in bundle.yaml that the checkpoints were trained by this repository's scripts",
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle to write")
    return p  # fmt: skip


def weight_files(values: list[str]) -> dict[str, Path]:
    """`ROLE=FILE` arguments, each role once, each file there."""
    files: dict[str, Path] = {}
    for value in values:
        role, found, name = value.partition("=")
        if not found or not name:
            raise UsageError(f"--weights {value}: expected ROLE=FILE")
        if role not in ROLE_NAMES:
            raise UsageError(f"--weights {value}: unknown role {role!r}, expected one of "
                             f"{', '.join(ROLE_NAMES)}")  # fmt: skip
        if role in files:
            raise UsageError(f"--weights: {role} is given twice")
        if not Path(name).is_file():
            raise UsageError(f"--weights {role}: {name}: no such file")
        files[role] = Path(name)
    return files


def chosen_tasks(args: argparse.Namespace, files: dict[str, Path]) -> tuple[str, ...]:
    """The tasks that get a cleaner."""
    if args.random_weights is None:
        if args.tasks is not None:
            raise UsageError("--tasks goes with --random-weights; with --weights the cleaners tell")
        return tuple(task for task in TASKS if f"cleaner.{task}" in files)
    names = (args.tasks or "sr").split(",")
    if unknown := [name for name in names if name not in TASKS]:
        raise UsageError(f"--tasks: unknown task {unknown[0]!r}, expected {', '.join(TASKS)}")
    return tuple(task for task in TASKS if task in names)


def request(arguments: list[str] | None) -> object:
    """The checked request."""
    args = parser().parse_args(arguments)
    files = weight_files(args.weights)
    if (args.random_weights is None) == (not files):
        raise UsageError("give either --weights or --random-weights")
    if args.trained and not files:
        raise UsageError("--trained goes with --weights")
    if args.random_weights is not None and args.random_weights < 0:
        raise UsageError("--random-weights: the seed must not be negative")
    if args.min_short_edge < 64:
        raise UsageError("--min-short-edge: must be at least 64")
    if args.precision == "fp16" and args.weights_storage == "fp32":
        raise UsageError("--weights-storage fp32 does not go with --precision fp16")
    if args.arch_config is not None and not args.arch_config.is_dir():
        raise UsageError(f"--arch-config {args.arch_config}: no such folder")
    from . import config, plan  # torch is slow to import: wrong usage should not wait for it

    return plan.Request(
        family=args.family,
        config=config.load(args.arch_config, args.family),
        out=args.out,
        files=files,
        seed=args.random_weights,
        tasks=chosen_tasks(args, files),
        precision=args.precision,
        storage=args.weights_storage or args.precision,
        min_short_edge=args.min_short_edge,
        split=args.split,
        text_encoder=not args.no_text_encoder,
        guidance_graph=args.guidance_graph,
        variants=not args.no_variants,
        overwrite=args.overwrite,
        trained=args.trained,
    )


def log(line: str) -> None:
    """One progress line, at once."""
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    # Nothing here loads from a hub; this also keeps the libraries from trying.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        asked = request(arguments)
        from .build import build

        build(asked, log)
    except (ExportError, OSError) as error:
        return tell(error)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(f"wrote {asked.out}")
    return 0
