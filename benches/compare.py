"""Times PyTorch and the program in turn, on the same weights and the same picture.

    python benches/compare.py --bundle onnx/diffbir-v1 --diffbir target/release/diffbir [--steps 5]

README.md beside this file says what is compared and what the columns mean.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import markdown
from turns import (
    PARTS,
    Child,
    ChildError,
    Guest,
    Side,
    add_program,
    faster,
    middle,
    program,
    ratio,
)

HERE = Path(__file__).resolve().parent
BOUND = 1e-3
"""Relative RMS that an intermediate result may be off the program's."""
KEEP = ("--set", "runtime.memory=keep")
SEQUENTIAL = ("--set", "runtime.memory=sequential")
LOW_MEMORY = ("--low-memory",)
ALSO = {
    "one-at-a-time": ("diffbir, one graph at a time", SEQUENTIAL),
    "low-memory": ("diffbir, low memory", LOW_MEMORY),
    "balanced": ("diffbir, balanced", (*KEEP, "--speed", "balanced")),
    "fast": ("diffbir, fast", (*KEEP, "--speed", "fast")),
}
"""Further ways to run the program."""


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="compare.py", description=__doc__.split("\n")[0])
    add_program(p)
    p.add_argument("--task", default="sr", help="which cleaner (default: sr)")
    p.add_argument("--steps", type=int, default=5, help="of the sampler `spaced` (default: 5)")
    p.add_argument("--turns", type=int, default=5, help="of each side (default: 5)")
    p.add_argument("--memory", choices=("keep", "sequential"), default="keep",
                   help="how the program holds its graphs (default: keep, all loaded)")  # fmt: skip
    p.add_argument("--also", nargs="+", default=[], choices=ALSO,
                   help="also time the program so")  # fmt: skip
    p.add_argument("--no-peaks", action="store_true", help="do not measure memory")
    p.add_argument("--weights", nargs="+", default=[], metavar="ROLE=FILE",
                   help="the checkpoints of a bundle that was made from some")  # fmt: skip
    p.add_argument("--arch-config", type=Path, metavar="DIR", help="as the exporter was given it")
    p.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of DiffBIR's code")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    return p


@dataclass
class Case:
    """What is compared, and how both sides are started."""

    args: argparse.Namespace
    described: dict[str, Any]
    tensors: Path

    @property
    def cfg_scale(self) -> float:
        """As asked for, else the bundle's."""
        given = self.args.cfg_scale
        return self.described["defaults"]["cfg_scale"] if given is None else given

    @property
    def scale(self) -> int:
        """What the cleaner enlarges by; the whole run enlarges as much, so nothing is resized."""
        name = self.described["tasks"][self.args.task]["cleaner"]
        return int(self.described["graphs"][name]["scale"])

    @property
    def size(self) -> int:
        """The edge of the result."""
        return self.args.size or self.described["min_short_edge"]

    @property
    def memory(self) -> tuple[str, str]:
        """The flags that say how the program holds its graphs."""
        return ("--set", f"runtime.memory={self.args.memory}")

    def program(self, *more: str | Path) -> Child:
        """The program, waiting for lines."""
        args = self.args
        return program(args, args.bundle, "--size", self.size, "--task", args.task,
                       "--upscale", self.scale, "--sampler", "spaced", "--steps", args.steps,
                       "--cfg-scale", self.cfg_scale, *more)  # fmt: skip

    def torch(self) -> Child:
        """PyTorch, waiting for lines."""
        args = self.args
        command = [sys.executable, "-m", "torchside", "--bundle", args.bundle, "--task", args.task,
                   "--tensors", self.tensors, "--threads", args.threads, "--steps", args.steps,
                   "--cfg-scale", self.cfg_scale]  # fmt: skip
        for flag in ("arch_config", "reference"):
            if value := getattr(args, flag):
                command += [f"--{flag.replace('_', '-')}", value]
        if args.weights:
            command += ["--weights", *args.weights]
        folders = [HERE, HERE.parent / "export", *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders),
            "OMP_NUM_THREADS": str(args.threads),
        }
        return Child([str(part) for part in command], env)


def checked(case: Case) -> None:
    """Refuses sizes at which something would be resized or padded on one side alone."""
    multiple = 64 * case.scale
    if case.size % multiple or case.size < case.described["min_short_edge"]:
        raise SystemExit(
            f"error: --size {case.size}: expected a multiple of {multiple}, at least "
            f"{case.described['min_short_edge']}"
        )


def check(torch: Child) -> dict[str, float]:
    """How far PyTorch is from the program; the first run also warms PyTorch up."""
    errors = torch.ask("check")["relative_rms"]
    print("relative RMS: " + ", ".join(f"{name} {x:.1e}" for name, x in errors.items()))
    worst = max(errors, key=errors.get)
    if not errors[worst] <= BOUND:
        raise SystemExit(f"error: {worst} is {errors[worst]:.1e} off, allowed are {BOUND:.0e}: "
                         "not the same weights")  # fmt: skip
    return errors


def take_turns(case: Case, theirs: list[Side], ours: list[Side | Guest]) -> None:
    """A B A B: every side once in each turn, one after the other."""
    for turn in range(case.args.turns):
        for side in [*theirs, *ours]:
            print(f"turn {turn + 1}: {side.name} {side.turn()['whole']:.2f} s", flush=True)


def peaks(case: Case) -> dict[str, int | None]:
    """The most memory each side holds, in a process of its own that runs once or twice."""
    ways = {"diffbir": case.memory} | dict(ALSO[way] for way in case.args.also)
    starts = {name: partial(case.program, *flags) for name, flags in ways.items()}
    found = {}
    for name, start in {**starts, "PyTorch": case.torch}.items():
        with start() as child:
            if name == "PyTorch":
                child.ask("batched")
            found[name] = child.peak()
    return found


def stage_macs(case: Case) -> dict[str, int]:
    """MACs of each stage, counted; a step is counted with its branches."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "export")]
    from torchside import modules, work

    args = case.args
    files = dict(value.split("=", 1) for value in args.weights)
    given = modules.Given(args.bundle, args.task, args.arch_config,
                          {role: Path(file) for role, file in files.items()})  # fmt: skip
    build = {name: entry.build for name, entry in modules.plans(given, case.described).items()}
    contexts = case.described["contexts"]
    found = work.of_stages(build, case.size, case.scale, (contexts["tokens"], contexts["width"]))
    branches = 1 if case.cfg_scale == 1 else 2
    found["step"] *= branches
    found["sampling"] = args.steps * found["step"]
    found["whole"] = sum(found[name] for name in ("cleaner", "vae_encoder", "sampling",
                                                  "vae_decoder"))  # fmt: skip
    return found


def measure(case: Case) -> dict[str, Any]:
    """Everything, as one record."""
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(case.program(*case.memory, "--tensors", case.tensors))
        torch = stack.enter_context(case.torch())
        errors = check(torch)
        theirs = [Side("PyTorch", torch, "batched")]
        if case.cfg_scale != 1:
            theirs[0].name = "PyTorch, cond and uncond in one batch"
            theirs.append(Side("PyTorch, one after the other", torch, "separate"))
        ours: list[Side | Guest] = [Side("diffbir", program)]
        for name, flags in (ALSO[way] for way in case.args.also):
            # Memory would not do for all of them at once.
            ours.append(Guest(name, partial(case.program, *flags)))
        floors = [torch.ask("floor")["macs_per_second"]]
        take_turns(case, theirs, ours)
        floors.append(torch.ask("floor")["macs_per_second"])
        ready = {"diffbir": program.ready, "PyTorch": torch.ready}
    compared = faster(theirs)
    sides = {side.name: {part: middle(side, part) for part in PARTS} for side in [*theirs, *ours]}
    ratios = {side.name: {part: ratio(compared, side, part) for part in PARTS} for side in ours}
    return {
        "compared": compared.name, "relative_rms": errors, "floor_macs_per_second": max(floors),
        "macs": stage_macs(case), "sides": sides, "ratios": ratios,
        "runs": {side.name: side.runs for side in [*theirs, *ours]},
        "peaks": {} if case.args.no_peaks else peaks(case), "ready": ready,
        "bundle": str(case.args.bundle), "size": case.size, "steps": case.args.steps,
        "cfg_scale": case.cfg_scale, "threads": case.args.threads, "turns": case.args.turns,
        "python": platform.python_version(), "load": os.getloadavg(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    args = parser().parse_args(arguments)
    import yaml

    described = yaml.safe_load((args.bundle / "bundle.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        case = Case(args, described, Path(folder) / "tensors.safetensors")
        checked(case)
        try:
            record = measure(case)
        except ChildError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print("\n" + markdown.comparison(record))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
