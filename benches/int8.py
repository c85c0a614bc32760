"""Times a bundle's int8 variants in turn with the exact ones for the CPU, in ONNX Runtime.

    python benches/int8.py --bundle onnx/demo [--graph denoiser] [--size 256 512] [--threads 1]

The bundle has such variants after `python -m diffbir_export.quantize`. A turn runs the exact graph
and then the int8 one; ratios are medians of the turns', above 1 where int8 is faster. Inputs are
random, so errors are not measured here. Loading is timed once for each, after the files were read.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="int8.py", description=__doc__.split("\n")[0])
    p.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    p.add_argument("--graph", nargs="+", default=["denoiser", "vae_decoder"])
    p.add_argument("--size", type=int, nargs="+", default=[256, 512], help="edges, in pixels")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--turns", type=int, default=15)
    return p


def session(args: argparse.Namespace, file: str) -> tuple[object, float]:
    """A session, and the seconds that loading it took."""
    from diffbir_export import bands

    model = (args.bundle / file).read_bytes()
    start = time.perf_counter()
    made = bands.session(model, args.bundle, args.threads, spins=False)
    return made, time.perf_counter() - start


def timed(one: object, inputs: dict[str, np.ndarray]) -> float:
    """Seconds of a run that asks for the graph's own output."""
    start = time.perf_counter()
    one.run([one.get_outputs()[0].name], inputs)
    return time.perf_counter() - start


def rows(args: argparse.Namespace, name: str, entry: dict) -> list[list[str]]:
    """One graph at all sizes: seconds of both, the ratio, and both sessions' loading."""
    import onnx
    from diffbir_export.quantize import latents, make
    from diffbir_export.variants import check

    int8 = make.existing(entry)
    if int8 is None:
        sys.exit(f"{args.bundle}: {name} has no int8 variant: python -m diffbir_export.quantize")
    files = (latents.whole(entry)["file"], int8["file"])
    both = [session(args, file) for file in files]
    loads = [f"{seconds:.2f}" for _, seconds in both]
    described = onnx.load(args.bundle / entry["file"], load_external_data=False)
    result = []
    for size in args.size:
        inputs = check.feed(described, 1, size // 8, size // 8, 1)
        times = [[timed(one, inputs) for one, _ in both] for _ in range(args.turns + 1)][1:]
        seconds = [f"{s:.4f}" for s in np.median(times, axis=0)]
        ratio = np.median([exact / small for exact, small in times])
        result.append([name, str(size), *seconds, f"{ratio:.2f}", *loads])
        print(*result[-1], flush=True)
    return result


def main() -> None:
    """Prints the table."""
    import yaml

    args = parser().parse_args()
    graphs = yaml.safe_load((args.bundle / "bundle.yaml").read_text())["graphs"]
    found = [row for name in args.graph for row in rows(args, name, graphs[name])]
    head = ["graph", "edge", "exact s", "int8 s", "speed-up", "exact load s", "int8 load s"]
    print()
    print(markdown.table(head, found))


if __name__ == "__main__":
    main()
