"""Running a command and reading what it tells; a device's memory is watched meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any


class CommandError(RuntimeError):
    """A command that failed."""


@dataclass(frozen=True)
class Command:
    """A command, what it reads on standard input, and the exit codes that are no failure."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Output:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    device_bytes: int | None
    """The most memory of the device that was in use meanwhile, less what was before."""

    def records(self, event: str) -> list[dict[str, Any]]:
        """Its JSON lines of one kind."""
        lines = (line for line in self.stdout.splitlines() if line.startswith("{"))
        return [record for line in lines if (record := json.loads(line)).get("event") == event]


class DeviceMemory:
    """Asks `nvidia-smi` again and again; without it there is nothing to tell."""

    QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0")
    EVERY = 0.2

    def __init__(self) -> None:
        self.there = shutil.which("nvidia-smi") is not None
        self.first = self.most = self.used()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def used(self) -> int | None:
        """Bytes in use now."""
        if not self.there:
            return None
        found = subprocess.run(self.QUERY, capture_output=True, text=True, check=False).stdout
        return int(found.split()[0]) * 2**20 if found.strip() else None

    def watch(self) -> None:
        """Keeps the most."""
        while not self.over.wait(self.EVERY):
            now = self.used()
            if now is not None and self.most is not None:
                self.most = max(self.most, now)

    def __enter__(self) -> DeviceMemory:
        """Begins to watch."""
        if self.there:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self.over.set()
        if self.there:
            self.thread.join()

    @property
    def taken(self) -> int | None:
        """The most, less what was in use at first."""
        return None if self.most is None else self.most - self.first


def run_command(command: Command, timeout: float) -> Output:
    """Runs it; an exit code that is not expected is an error with its last words."""
    start = time.monotonic()
    with DeviceMemory() as memory:
        try:
            found = subprocess.run(
                command.argv,
                env={**os.environ, **command.env},
                input="".join(f"{line}\n" for line in command.lines),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandError(f"{command.argv[0]}: no end after {timeout:.0f} s") from None
    if found.returncode not in command.codes:
        last = (found.stderr.strip() or found.stdout.strip())[-1500:]
        raise CommandError(f"{command.argv[0]} ended with exit code {found.returncode}: {last}")
    return Output(found.returncode, found.stdout, found.stderr, time.monotonic() - start,
                  memory.taken)  # fmt: skip
