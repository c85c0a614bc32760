"""Times restorations whose pictures are decoded in the process and apart, in turn.

    python benches/apart.py [--bundle onnx/demo] [--turns 5] [PICTURE …]

Each turn runs the program twice on the same pictures, without and with `--decode-apart`. A machine
is never equally fast twice: what counts is the median of the ratios of neighbours, and what reading
takes of a restoration.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PICTURES = sorted((ROOT / "onnx/demo/pictures").glob("*.png"))


def seconds(args: argparse.Namespace, apart: bool) -> list[dict[str, float]]:
    """What each picture took, by stage."""
    with tempfile.TemporaryDirectory() as out:
        command = [args.diffbir, "restore", *args.pictures, "-o", f"{out}/results", "--json",
                   "--offline", "--bundle", args.bundle, "--steps", args.steps]  # fmt: skip
        command += ["--decode-apart"] if apart else []
        run = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
        lines = run.stdout.splitlines()
    records = [json.loads(line) for line in lines]
    return [record["seconds"] for record in records if record.get("event") == "picture"]


def main() -> None:
    """Take turns, and print the medians."""
    p = argparse.ArgumentParser(prog="apart.py", description=__doc__.split("\n")[0])
    p.add_argument("pictures", nargs="*", type=Path, default=PICTURES, metavar="PICTURE")
    p.add_argument("--bundle", type=Path, default=ROOT / "onnx/demo", metavar="DIR")
    p.add_argument(
        "--diffbir", type=Path, default=ROOT / "target/release/diffbir", help="the program"
    )
    p.add_argument("--steps", type=int, default=10, help="of the sampler (default: 10)")
    p.add_argument("--turns", type=int, default=5, help="of each (default: 5)")
    args = p.parse_args()
    turns = []
    for k in range(args.turns):
        # Each comes first as often as the other.
        sides = {apart: seconds(args, apart) for apart in (k % 2 == 1, k % 2 == 0)}
        turns.append((sides[False], sides[True]))
    pairs = [pair for here, apart in turns for pair in zip(here, apart, strict=True)]
    total = median(here["total"] for here, _ in pairs)
    reading = [median(side["read"] for side in sides) for sides in zip(*pairs, strict=True)]
    ratio = median(apart["total"] / here["total"] for here, apart in pairs)
    more = (reading[1] - reading[0]) / total
    here, apart = (f"{1e3 * seconds:.1f} ms" for seconds in reading)
    print(f"{len(pairs)} restorations each, {total:.2f} s in the middle; apart {ratio:.3f} times")
    print(f"reading: {here} in the process, {apart} apart, {more:.2%} of a restoration more")


if __name__ == "__main__":
    main()
