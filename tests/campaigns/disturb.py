#!/usr/bin/env python3
"""Runs over small pictures that are disturbed, then --resume, against an undisturbed run.

    disturb.py KIND [--program target/release/diffbir] [--bundle tests/fixtures/bundle] [--tries 100] [--first 0] [--seed 1]

KIND is

- faults: one call that writes a file fails (no space, an I/O error, half a write, a quota, a read-only file system), the
  first one in the first try, then the next, over again with the next fault; needs a C compiler,
- signals: SIGINT, SIGTERM or SIGHUP at a random moment,
- full-disk, no-inodes: results go to a file system with too little of it; needs root, for mounting.

A try fails unless the run says what is wrong (or all its results are right: it may not have needed what was refused), every
result that has its name has the undisturbed run's bytes, and --resume, with the disturbance over, makes the rest: the
undisturbed run's results byte for byte, and no temporary files. Prints tries and failures; exits with 1 where there were
any, 77 where the machine cannot run it.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill import LEDGER, contents, png, small

FAULTS = ["enospc", "eio", "short", "edquot", "erofs"]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PICTURES = 3


class Campaign:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.random = random.Random(args.seed)
        self.failures = self.errors = self.harmless = 0
        for i in range(PICTURES):
            png(folder / "in" / f"p{i}.png", 20 + 4 * i, i)
        self.bundle = small(args.bundle, folder / "bundle")
        self.out = folder / "out"
        start = time.monotonic()
        run = self.run()
        assert run.returncode == 0, run.stderr
        self.seconds = time.monotonic() - start
        self.whole = contents(self.out)
        assert len(self.whole) == PICTURES
        self.clear()

    def command(self) -> list[str]:
        fixed = ["--bundle", self.bundle, "--offline", "--sampler", "ddim", "--steps", "2", "--upscale", "2"]
        return [self.args.program, "restore", str(self.folder / "in"), "-o", str(self.out), "--resume", *fixed]

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **variables}
        return subprocess.run(self.command(), capture_output=True, text=True, env=env, timeout=300)

    def clear(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def disturbed(self, number: int) -> tuple[int, str]:
        """Exit code and what was said."""
        raise NotImplementedError

    def over(self) -> None:
        """Ends the disturbance."""

    def torn(self) -> list[str]:
        found = contents(self.out) if self.out.exists() else {}
        return [f"{name} is not whole" for name, data in found.items() if self.whole.get(name) != data]

    def attempt(self, number: int) -> None:
        code, said = self.disturbed(number)
        wrong = self.torn()
        complete = self.out.exists() and contents(self.out) == self.whole
        if code == 0 and not complete:
            wrong.append("exit code 0, and results are missing")
        if code not in (0, 130) and (code < 0 or not said.strip()):
            wrong.append(f"exit code {code}, said: {said!r}")
        if "panicked" in said or "a defect" in said or code == 70:
            wrong.append(f"a defect: {said}")
        self.errors += code != 0
        self.harmless += code == 0
        self.over()
        run = self.run()
        if run.returncode != 0:
            wrong.append(f"then --resume ends with {run.returncode}: {run.stderr}")
        elif contents(self.out) != self.whole:
            wrong.append("then --resume makes other results")
        stray = [path.name for path in self.out.rglob(".diffbir-*") if path.name != LEDGER]
        if stray:
            wrong.append(f"temporary files are left: {stray}")
        self.clear()
        self.failures += bool(wrong)
        for line in wrong:
            print(f"try {number} ({self.what(number)}): {line}", flush=True)

    def what(self, number: int) -> str:
        return str(number)

    def figures(self, tries: int) -> str:
        ended = f"{self.errors} ended with an error, {self.harmless} with all results"
        return f"{self.args.kind}: {tries} tries, {ended}, {self.failures} failures"


class Faults(Campaign):
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.library = folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        build = ["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(self.library), "-ldl"]
        subprocess.run(build, check=True)
        super().__init__(args, folder)
        count = folder / "count"
        self.run(LD_PRELOAD=str(self.library), FAULT_COUNT=str(count))
        self.calls = int(count.read_text())
        self.clear()
        print(f"{self.calls} calls of an undisturbed run can fail", flush=True)

    def fault(self, number: int) -> tuple[int, str]:
        return number % self.calls + 1, FAULTS[number // self.calls % len(FAULTS)]

    def what(self, number: int) -> str:
        at, kind = self.fault(number)
        return f"call {at}, {kind}"

    def disturbed(self, number: int) -> tuple[int, str]:
        at, kind = self.fault(number)
        run = self.run(LD_PRELOAD=str(self.library), FAULT_AT=str(at), FAULT_KIND=kind)
        return run.returncode, run.stderr


class Signals(Campaign):
    def disturbed(self, number: int) -> tuple[int, str]:
        moment = self.random.uniform(0.02, self.seconds)
        with subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            try:
                run.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                run.send_signal(SIGNALS[number % len(SIGNALS)])
            _, said = run.communicate(timeout=60)
        # Before the program has a handler, the signal ends it as it ends any program.
        code = run.returncode
        return (130 if -code in SIGNALS else code), said

    def what(self, number: int) -> str:
        return SIGNALS[number % len(SIGNALS)].name


class Full(Campaign):
    """Results go to a file system of its own."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        super().__init__(args, folder)
        self.bytes = sum(map(len, self.whole.values()))
        self.out.mkdir()

    def options(self, number: int) -> str:
        # Pages of 4 kB: from nothing to nearly all that is needed.
        pages = self.bytes // 4096 + PICTURES + 2
        return f"size={4096 * (1 + number % pages)}"

    def what(self, number: int) -> str:
        return self.options(number)

    def disturbed(self, number: int) -> tuple[int, str]:
        self.out.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.options(number), "none", str(self.out)], check=True)
        run = self.run()
        return run.returncode, run.stderr

    def over(self) -> None:
        larger = "remount,size=64m,nr_inodes=1000"
        subprocess.run(["mount", "-o", larger, str(self.out)], check=True)

    def clear(self) -> None:
        if self.out.is_mount():
            subprocess.run(["umount", str(self.out)], check=True)
        super().clear()


class NoInodes(Full):
    def options(self, number: int) -> str:
        # The folder itself takes one, the ledger, the claim and a temporary file one each.
        return f"nr_inodes={1 + number % (PICTURES + 3)}"


KINDS = {"faults": Faults, "signals": Signals, "full-disk": Full, "no-inodes": NoInodes}


def can_run(kind: str) -> bool:
    if kind == "faults":
        return shutil.which("cc") is not None and sys.platform == "linux"
    if kind == "signals":
        return True
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
        return mounted.returncode == 0 and subprocess.run(["umount", folder], check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--program", default=str(root / "target/release/diffbir"))
    parser.add_argument("--bundle", type=Path, default=root / "tests/fixtures/bundle")
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not can_run(args.kind):
        print(f"{args.kind}: SKIPPED (needs a C compiler, or root)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        campaign = KINDS[args.kind](args, Path(folder))
        try:
            for number in range(args.first, args.first + args.tries):
                campaign.attempt(number)
                if number % 10 == 9:
                    print(campaign.figures(number + 1 - args.first), file=sys.stderr, flush=True)
        finally:
            campaign.clear()
    print(campaign.figures(args.tries))
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
