#!/usr/bin/env python3
"""kill -9 at random moments of runs over 12 pictures, then --resume, against an undisturbed run.

    kill.py [--program target/release/diffbir] [--bundle tests/fixtures/bundle] [--kills 500 | --tries N] [--seed 1]

Each try runs `restore` over folders, with several samples, with --frames, or with --overwrite over the results of other
settings, in turn; kills it with SIGKILL at a moment drawn evenly from the time that an undisturbed run takes, once or
several times; and resumes it. It fails unless, after each kill, every result that has its name has the undisturbed run's
bytes (with --overwrite: or the earlier result's), every earlier result is there, and after the last kill

- the results are the undisturbed run's, byte for byte, and nothing else lies in their folder but the ledger (no stale
  file), and a file of the user in it is as it was,
- a result that was there was not made again (its inode is the same), and `--json` says that it was skipped,
- every result has one line in the ledger that has its bytes,
- the inputs are as they were.

The bundle is copied with a short edge of 64 pixels, so that a run takes a second of computing. Prints tries, kills and
failures; exits with 1 where there were any.
"""

import argparse
import hashlib
import json
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

LEDGER = ".diffbir-ledger.jsonl"
KINDS = {
    "folders": ["--recursive"],
    "samples": ["--recursive", "--samples", "2"],
    "frames": ["--frames"],
    "overwrite": ["--recursive"],
}
# A file of the user in the folder of results.
NOTES = "notes.txt"


def png(path: Path, side: int, seed: int) -> None:
    """A picture of noise."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def contents(folder: Path) -> dict[str, bytes]:
    """The results by their names, without the ledger, temporary files and the user's file."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".diffbir-"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != NOTES}


def small(bundle: Path, folder: Path) -> str:
    """A copy of the bundle that restores small pictures at their size."""
    shutil.copytree(bundle, folder)
    manifest = folder / "bundle.yaml"
    manifest.write_text(re.sub(r"(?m)^min_short_edge: .*$", "min_short_edge: 64", manifest.read_text()))
    return str(folder)


class Campaign:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.program, self.folder = args.program, folder
        self.bundle = small(Path(args.bundle), folder / "bundle")
        self.random = random.Random(args.seed)
        self.tries = self.kills = self.failures = 0
        for i in range(12):
            png(folder / "frames" / f"f_{i:02}.png", 24, i)
            below = "deep/" if i % 3 == 2 else ""
            png(folder / "folders" / f"{below}p{i}.png", 20 + 2 * (i % 4), i)
        self.inputs = self.all_inputs()
        self.whole = {kind: self.undisturbed(kind) for kind in KINDS}
        # The results that --overwrite replaces.
        self.earlier_folder = folder / "earlier"
        self.run(self.command("overwrite", self.earlier_folder, "--resume", "--seed", "7"))
        self.earlier = contents(self.earlier_folder)
        assert all(data != self.whole["overwrite"][0][name] for name, data in self.earlier.items())

    def all_inputs(self) -> dict[str, bytes]:
        return contents(self.folder / "frames") | contents(self.folder / "folders")

    def command(self, kind: str, out: Path, *more: str) -> list[str]:
        inputs = self.folder / ("frames" if kind == "frames" else "folders")
        fixed = ["--bundle", self.bundle, "--offline", "--json", "--upscale", "1", "--cleaner", "none"]
        fixed += ["--sampler", "edm_euler", "--steps", "1"]
        return [self.program, "restore", str(inputs), "-o", str(out), *fixed, *KINDS[kind], *more]

    @staticmethod
    def run(command: list[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def undisturbed(self, kind: str) -> tuple[dict[str, bytes], float]:
        """The results, and the seconds that they take."""
        out = self.folder / f"whole-{kind}"
        start = time.monotonic()
        self.run(self.command(kind, out, "--resume"))
        return contents(out), time.monotonic() - start

    def kill(self, kind: str, out: Path, existing: str) -> bool:
        """Runs until a random moment; whether the run was still alive then."""
        moment = self.random.uniform(0, self.whole[kind][1])
        command = self.command(kind, out, existing)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            try:
                run.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                run.kill()
                self.kills += 1
                return True
        return False

    def torn_or_lost(self, kind: str, out: Path) -> list[str]:
        """What is wrong right after a kill."""
        whole, there = self.whole[kind][0], contents(out)
        earlier = self.earlier if kind == "overwrite" else {}
        right = {name: (whole.get(name), earlier.get(name)) for name in there}
        torn = [f"{name} is torn" for name, data in there.items() if data not in right[name]]
        return torn + [f"{name} is lost" for name in earlier if name not in there]

    def resume(self, kind: str, out: Path) -> list[str]:
        """Ends the run; what is wrong afterwards."""
        whole = self.whole[kind][0]
        finished = [name for name, data in contents(out).items() if whole.get(name) == data]
        before = {name: (out / name).stat().st_ino for name in finished}
        run = subprocess.run(self.command(kind, out, self.existing(kind, out)), capture_output=True, text=True)
        if run.returncode != 0:
            return [f"exit code {run.returncode}: {run.stderr}"]
        wrong = self.made_again(kind, out, before, run.stdout)
        if contents(out) != whole:
            wrong.append("the results are not those of the undisturbed run")
        if (out / NOTES).read_text() != NOTES:
            wrong.append("the user's file was changed")
        if self.all_inputs() != self.inputs:
            wrong.append("an input was changed")
        stray = [str(path) for path in out.rglob(".diffbir-*") if path.name != LEDGER]
        if stray:
            wrong.append(f"stale files: {stray}")
        return wrong + self.ledger(out, whole)

    @staticmethod
    def made_again(kind: str, out: Path, before: dict[str, int], report: str) -> list[str]:
        """The finished results that were made once more, or are not reported as skipped."""
        wrong = []
        lines = [json.loads(line) for line in report.splitlines()]
        made = {Path(file) for line in lines if line.get("status") == "done" for file in line["outputs"]}
        kept = {Path(file) for line in lines if line.get("status") == "skipped" for file in line["outputs"]}
        for name, inode in before.items():
            path = out / name
            if not path.exists() or path.stat().st_ino != inode:
                wrong.append(f"{name} was there and was made again")
            # With several samples a picture that lacks one is restored, and its finished files are kept.
            if kind != "samples" and (path in made or path not in kept):
                wrong.append(f"{name} was there and is not reported as skipped")
        return wrong

    @staticmethod
    def ledger(out: Path, whole: dict[str, bytes]) -> list[str]:
        """What is wrong with the ledger."""
        known: dict[str, str] = {}
        for line in (out / LEDGER).read_text().splitlines():
            try:
                made = json.loads(line).get("made")
            except ValueError:
                continue
            if made:
                known[made["result"]] = made["bytes"]["sha256"]
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in whole.items()}
        return [] if known == hashes else ["the ledger does not have the results' bytes"]

    def attempt(self) -> None:
        kind = list(KINDS)[self.tries % len(KINDS)]
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if kind == "overwrite":
            shutil.copytree(self.earlier_folder, out)
        out.mkdir(exist_ok=True)
        (out / NOTES).write_text(NOTES)
        wrong = []
        for _ in range(self.random.choice([1, 2, 3, 4])):
            alive = self.kill(kind, out, self.existing(kind, out))
            wrong += self.torn_or_lost(kind, out)
            if not alive:
                break
        wrong += self.resume(kind, out)
        self.failures += bool(wrong)
        for line in wrong:
            print(f"try {self.tries} ({kind}): {line}", flush=True)
        self.tries += 1
        if self.tries % 10 == 0:
            print(self.figures(), file=sys.stderr, flush=True)

    @staticmethod
    def existing(kind: str, out: Path) -> str:
        """--overwrite until the ledger says that a run replaces the earlier results, else --resume."""
        if kind != "overwrite" or '{"replacing"' in (out / LEDGER).read_text():
            return "--resume"
        return "--overwrite"

    def figures(self) -> str:
        return f"{self.tries} tries, {self.kills} kills, {self.failures} failures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--program", default=str(root / "target/release/diffbir"))
    parser.add_argument("--bundle", default=str(root / "tests/fixtures/bundle"))
    parser.add_argument("--kills", type=int, default=500, help="end after so many")
    parser.add_argument("--tries", type=int, help="end after so many instead")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(args, Path(folder))
        while campaign.tries < args.tries if args.tries else campaign.kills < args.kills:
            campaign.attempt()
    print(campaign.figures())
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
