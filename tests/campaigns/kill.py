#!/usr/bin/env python3
"""kill -9 at random moments of runs over 12 pictures, then --resume, against an undisturbed run.

    kill.py [--program target/release/diffbir] [--bundle tests/fixtures/bundle] [--tries 100] [--seed 1]

Each try runs `restore` over folders, with several samples, or with --frames, in turn; kills it with SIGKILL at a moment
drawn evenly from the time that an undisturbed run takes, once or several times; and resumes it. It fails unless, after
each kill, every result that has its name has the undisturbed run's bytes, and after the last one

- the results are the undisturbed run's, byte for byte, and nothing else lies in their folder but the ledger,
- a result that was there was not made again (its inode is the same), and `--json` says that it was skipped,
- every result has one line in the ledger that has its bytes.

Prints tries, kills and failures; exits with 1 where there were any.
"""

import argparse
import hashlib
import json
import random
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
}


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
    """The results by their names, without the ledger and without temporary files."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".diffbir-"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Campaign:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.random = random.Random(args.seed)
        self.kills = self.failures = 0
        for i in range(12):
            png(folder / "frames" / f"f_{i:02}.png", 24, i)
            below = "deep/" if i % 3 == 2 else ""
            png(folder / "folders" / f"{below}p{i}.png", 20 + 2 * (i % 4), i)
        self.whole = {kind: self.undisturbed(kind) for kind in KINDS}

    def command(self, kind: str, out: Path) -> list[str]:
        inputs = self.folder / ("frames" if kind == "frames" else "folders")
        fixed = ["--bundle", self.args.bundle, "--offline", "--json", "--steps", "3", "--upscale", "2"]
        return [self.args.program, "restore", str(inputs), "-o", str(out), "--resume", *fixed, *KINDS[kind]]

    def undisturbed(self, kind: str) -> tuple[dict[str, bytes], float]:
        """The results, and the seconds that they take."""
        out = self.folder / f"whole-{kind}"
        start = time.monotonic()
        subprocess.run(self.command(kind, out), check=True, stdout=subprocess.DEVNULL)
        return contents(out), time.monotonic() - start

    def kill(self, kind: str, out: Path) -> bool:
        """Runs until a random moment; whether the run was still alive then."""
        moment = self.random.uniform(0, self.whole[kind][1])
        with subprocess.Popen(self.command(kind, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            try:
                run.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                run.kill()
                self.kills += 1
                return True
        return False

    def resume(self, kind: str, out: Path) -> list[str]:
        """Ends the run; what is wrong afterwards."""
        whole = self.whole[kind][0]
        before = {name: (out / name).stat().st_ino for name in contents(out)}
        run = subprocess.run(self.command(kind, out), capture_output=True, text=True)
        if run.returncode != 0:
            return [f"exit code {run.returncode}: {run.stderr}"]
        wrong = []
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        made = {Path(file) for line in lines if line.get("status") == "done" for file in line["outputs"]}
        samples = 2 if kind == "samples" else 1
        complete = [line for line in lines if line.get("status") == "skipped"]
        kept = {Path(file) for line in complete for file in line["outputs"]}
        for name, inode in before.items():
            path = out / name
            if path.stat().st_ino != inode:
                wrong.append(f"{name} was there and was made again")
            if samples == 1 and (path in made or path not in kept):
                wrong.append(f"{name} was there and is not reported as skipped")
        if contents(out) != whole:
            wrong.append("the results are not those of the undisturbed run")
        stray = [str(path) for path in out.rglob(".diffbir-*") if path.name != LEDGER]
        if stray:
            wrong.append(f"temporary files are left: {stray}")
        return wrong + self.ledger(out, whole)

    def ledger(self, out: Path, whole: dict[str, bytes]) -> list[str]:
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

    def attempt(self, number: int) -> None:
        kind = list(KINDS)[number % len(KINDS)]
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        wrong = []
        for _ in range(self.random.choice([1, 1, 2, 3])):
            alive = self.kill(kind, out)
            whole = self.whole[kind][0]
            torn = [name for name, data in contents(out).items() if whole.get(name) != data]
            wrong += [f"{name} is torn" for name in torn]
            if not alive:
                break
        wrong += self.resume(kind, out)
        self.failures += bool(wrong)
        for line in wrong:
            print(f"try {number} ({kind}): {line}", flush=True)
        if number % 10 == 9:
            print(self.figures(number + 1), file=sys.stderr, flush=True)

    def figures(self, tries: int) -> str:
        return f"{tries} tries, {self.kills} kills, {self.failures} failures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--program", default=str(root / "target/release/diffbir"))
    parser.add_argument("--bundle", default=str(root / "tests/fixtures/bundle"))
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(args, Path(folder))
        for number in range(args.tries):
            campaign.attempt(number)
    print(campaign.figures(args.tries))
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
