"""Programs that are timed in turn: each a process that loads once and runs once for each line.

A process tells JSON lines: first `{"event": "ready", …}`, then `{"event": "run", …}` for each line
on its standard input. A machine is never equally fast twice, so programs take turns, and what
counts is the median of the ratios of neighbours.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Record = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]


class ChildError(RuntimeError):
    """A process that ended, or told an error."""


class Child:
    """A process that speaks JSON lines; a context manager that ends it."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.ready: Record = {}

    def __enter__(self) -> Child:
        """Waits until it has loaded."""
        try:
            self.ready = self.read("ready")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self.close()

    def ask(self, line: str) -> Record:
        """Sends one line and waits for the answer."""
        # Where it has ended, its own last words, read below, say more.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.read("run")

    def read(self, event: str) -> Record:
        """The next record of this kind; others are passed over."""
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue
            record = json.loads(line)
            if record.get("event") == "error":
                raise ChildError(f"{self.command[0]}: {record.get('error')}")
            if record.get("event") == event:
                return record
        code = self.process.wait()
        raise ChildError(f"{' '.join(self.command)} ended with exit code {code}, expected {event}")

    def peak(self) -> int | None:
        """The most bytes that the process has held, as far as the system tells."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        lines = [line for line in text.splitlines() if line.startswith("VmHWM:")]
        return int(lines[0].split()[1]) * 1024 if lines else None

    def close(self) -> None:
        """Ends the process: without further lines it ends by itself."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def add_program(p: ArgumentParser) -> None:
    """The flags that say which program runs what."""
    p.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    p.add_argument("--diffbir", type=Path, default=ROOT / "target/release/diffbir",
                   help="the program")  # fmt: skip
    p.add_argument("--ort", type=Path, metavar="FILE", help="ONNX Runtime's library")
    p.add_argument("--size", type=int, help="edge of the result (default: the bundle's short edge)")
    p.add_argument("--cfg-scale", type=float, help="default: the bundle's")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))


def program(args: Namespace, bundle: Path, *arguments: object) -> Child:
    """The program on a bundle, waiting for lines."""
    threads = json.dumps([{"cpu": {"threads": args.threads}}])
    command = [args.diffbir, "bench", "--paced", "--json", "--bundle", bundle,
               "--set", f"runtime.providers={threads}", *arguments]  # fmt: skip
    env = {"ORT_DYLIB_PATH": str(args.ort)} if args.ort else {}
    return Child([str(part) for part in command], env)


@dataclass
class Side:
    """One that takes turns: a process, the line that makes it run, and what its runs took."""

    name: str
    child: Child
    line: str = "run"
    runs: list[Record] = field(default_factory=list)

    def turn(self) -> Record:
        """Runs once."""
        self.runs.append(self.child.ask(self.line))
        return self.runs[-1]


@dataclass
class Guest:
    """A side whose process is started anew for each turn; it has run once before it is timed."""

    name: str
    start: Callable[[], Child]
    runs: list[Record] = field(default_factory=list)

    def turn(self) -> Record:
        """Runs once."""
        with self.start() as child:
            self.runs.append(child.ask("run"))
        return self.runs[-1]


PARTS = ("cleaner", "vae_encoder", "sampling", "step", "vae_decoder", "whole")


def seconds(run: Record, part: str) -> float | None:
    """What one part of a run took; a step is the run's median step."""
    if part == "whole":
        return run["whole"]
    if part == "step":
        return median(run["steps"]) if run["steps"] else None
    return run["stages"].get(part)


def middle(side: Side | Guest, part: str) -> float | None:
    """The median over a side's runs."""
    found = [value for run in side.runs if (value := seconds(run, part)) is not None]
    return median(found) if found else None


def ratio(theirs: Side, ours: Side | Guest, part: str) -> float | None:
    """How many times as long theirs takes: the median of the ratios of neighbouring turns."""
    pairs = [
        (seconds(a, part), seconds(b, part)) for a, b in zip(theirs.runs, ours.runs, strict=True)
    ]
    found = [a / b for a, b in pairs if a is not None and b]
    return median(found) if found else None


def faster(sides: Sequence[Side]) -> Side:
    """The side whose median whole run is shortest."""
    return min(sides, key=lambda side: middle(side, "whole"))
