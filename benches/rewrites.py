"""Times each rewrite of a bundle's graphs alone, in turn with the plain graph, in ONNX Runtime.

    python benches/rewrites.py --bundle onnx/demo [--graph denoiser vae_decoder] [--size 512]

A turn runs the plain graph and then the rewritten one; the last columns are medians of the turns'
ratios, above 1 where the rewrite is faster, and how far the outputs are apart. The denoiser runs
two branches of guidance. Both sessions are in memory at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))

if TYPE_CHECKING:
    from diffbir_export.variants.graph import Graph
    from onnx import ValueInfoProto

BRANCHES = 2
KNOWN = "known"
GRAPHS = ("cleaner_sr", "vae_encoder", "denoiser", "vae_decoder")


def rewrites(kind: str) -> dict[str, list[Callable[[Graph], object]]]:
    """Each rewrite of a kind of graph alone, and all of them."""
    from diffbir_export.variants.make import REWRITES
    from diffbir_export.variants.prefix import share_prefix

    single = {name: [rewrite] for name, rewrite in REWRITES[kind].items()}
    if kind == "denoiser":
        single["prefix"] = [lambda graph: share_prefix(graph, {"context"})]
    every = [rewrite for group in single.values() for rewrite in group]
    rows = single | ({"all": every} if len(single) > 1 else {})
    return rows | ({KNOWN: []} if kind == "denoiser" else {})


def known(graph: Graph) -> list[str]:
    """Makes what depends on prompts or on timesteps alone inputs; returns their names.

    Keys and values of cross-attentions and the projections of the timestep could be computed once
    for all steps and pictures: how much faster is a graph that is given them?
    """
    from diffbir_export.variants.prefix import shape_values

    graph.sort()
    shapes = shape_values(graph)
    reach = {value.name: {value.name} for value in graph.inputs} | {name: set() for name in shapes}
    for node in graph.nodes:
        of_inputs = [reach.get(name, set()) for name in node.input]
        reach |= {name: set().union(*of_inputs) for name in node.output if name not in shapes}
    early = {name for name, found in reach.items() if found in ({"context"}, {"timestep"})}
    used = {name for node in graph.nodes if node.output[0] not in early for name in node.input}
    names = sorted(used & early & graph.order.keys())
    for name in names:
        graph.drop(graph.maker(name))
        graph.inputs.append(unshaped(name))
    return names


def unshaped(name: str) -> ValueInfoProto:
    """An input or output of unknown shape."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="rewrites.py", description=__doc__.split("\n")[0])
    p.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    p.add_argument("--graph", nargs="+", default=list(GRAPHS))
    p.add_argument("--size", type=int, default=512, help="edge of the picture, in pixels")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--turns", type=int, default=7)
    return p


class Case:
    """One graph, its inputs and its plain session."""

    def __init__(self, args: argparse.Namespace, name: str, entry: dict) -> None:
        import onnx
        from diffbir_export.variants import check

        self.args, self.path, self.kind = args, args.bundle / entry["file"], entry["kind"]
        described = onnx.load(self.path, load_external_data=False)
        edge = args.size if self.kind in ("cleaner", "vae_encoder") else args.size // 8
        branches = BRANCHES if self.kind == "denoiser" else 1
        self.shared = check.feed(described, 1, edge, edge, branches)
        self.inputs = check.repeated(self.shared, branches)
        self.plain = self.session(self.path.read_bytes())
        self.wanted = self.plain.run(None, self.inputs)[0]

    def session(self, model: bytes) -> object:
        """A session on as many threads as asked for."""
        from diffbir_export import bands

        return bands.session(model, self.args.bundle, self.args.threads, spins=False)

    def values(self, names: list[str]) -> dict[str, np.ndarray]:
        """What the plain graph makes on the way."""
        from diffbir_export.variants.graph import Graph

        graph = Graph(self.path)
        graph.outputs = [unshaped(name) for name in names]
        session = self.session(graph.finish().SerializeToString())
        inputs = {value.name: self.inputs[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, inputs), strict=True))

    def row(self, name: str, changes: list[Callable[[Graph], object]]) -> list[str]:
        """One rewrite: its seconds, the plain graph's, the ratio, the error."""
        from diffbir_export.variants.graph import Graph

        graph = Graph(self.path)
        for change in changes:
            change(graph)
        given = self.values(known(graph)) if name == KNOWN else {}
        session = self.session(graph.finish().SerializeToString())
        shares = name in ("prefix", "all") and self.kind == "denoiser"
        inputs = (self.shared if shares else self.inputs) | given
        inputs = {value.name: inputs[value.name] for value in session.get_inputs()}
        [found, *_] = session.run(None, inputs)
        error = np.sqrt(np.mean((found - self.wanted) ** 2) / np.mean(self.wanted**2))
        times = []
        for _ in range(self.args.turns):
            start = time.perf_counter()
            self.plain.run(None, self.inputs)
            middle = time.perf_counter()
            session.run(None, inputs)
            times.append((middle - start, time.perf_counter() - middle))
        plain, changed = np.median(times, axis=0)
        ratio = np.median([a / b for a, b in times])
        return [name, f"{plain:.3f}", f"{changed:.3f}", f"{ratio:.2f}", f"{error:.0e}"]


def main() -> None:
    """Prints the table."""
    import yaml

    args = parser().parse_args()
    graphs = yaml.safe_load((args.bundle / "bundle.yaml").read_text())["graphs"]
    rows = []
    for name in args.graph:
        case = Case(args, name, graphs[name])
        for rewrite, changes in rewrites(case.kind).items():
            row = case.row(rewrite, changes)
            print(name, *row, flush=True)
            rows.append([name, *row])
    print()
    head = ["graph", "rewrite", "plain s", "rewritten s", "plain / rewritten", "relative RMS"]
    print(markdown.table(head, rows))


if __name__ == "__main__":
    main()
