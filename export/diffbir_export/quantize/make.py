"""The int8 variant of a graph: made, measured and described."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .. import bundle
from ..bands import Arrays, session
from ..checkpoint import sha256
from ..variants.graph import Graph
from ..verify import Measured, compare
from . import choose, layers, qdq, ranges, sensitivity
from .latents import Records, whole
from .sensitivity import Unit

Log = Callable[[str], None]

NAME = "cpu-int8"
PRECISION = "int8"
KEY = "int8"
"""The metadata of a variant's file that says what was decided."""
ROWS = 12
LARGE = 1 << 30
"""Bytes of weights from which on one row must do to measure a layer."""
TURNS = 5


def file_name(entry: dict[str, Any]) -> str:
    """`denoiser.cpu.int8.onnx`."""
    return f"{Path(entry['file']).stem}.cpu.int8.onnx"


def existing(entry: dict[str, Any]) -> dict[str, Any] | None:
    """A graph's int8 variant."""
    return next((v for v in entry["variants"] if v["precision"] == PRECISION), None)


def current(folder: Path, entry: dict[str, Any], loss: float) -> bool:
    """Whether a graph's int8 variant is there, made of the graph as it is and for this loss."""
    variant = existing(entry)
    if variant is None or not (folder / variant["file"]).is_file():
        return False
    model = onnx.load(folder / variant["file"], load_external_data=False)
    told = {one.key: one.value for one in model.metadata_props}
    decided = json.loads(told.get(KEY, "{}"))
    return decided.get("of") == origin(folder, entry) and decided.get("bound") == loss


def origin(folder: Path, entry: dict[str, Any]) -> dict[str, str]:
    """What a variant is made of: SHA-256 of the graph that is rewritten, and of its weights."""
    name = whole(entry)["file"]
    data = {file: digest for file, digest in entry["files"].items() if file.endswith(".data")}
    return {name: sha256(folder / name), **data}


def batch(runs: list[Arrays], shares_prefix: bool) -> Arrays:
    """Several runs as one."""
    result = {}
    for name, first in runs[0].items():
        rows = [run[name] for run in runs]
        if name == "strength":
            result[name] = first
        elif name == "context":
            result[name] = np.repeat(first, len(runs), axis=0)
        elif "context" in runs[0] and not shares_prefix:
            result[name] = np.concatenate(rows * len(runs[0]["context"]))
        else:
            result[name] = np.concatenate(rows)
    return result


@dataclass
class Quantiser:
    """A graph and what is known of its layers."""

    graph: Graph
    records: Records
    shares_prefix: bool
    log: Log

    def __post_init__(self) -> None:
        """Finds layers, scales and what the exact graph makes of the records set apart."""
        self.folder = Path(self.graph.path).parent
        self.layers = layers.find(self.graph)
        found, watch = ranges.Ranges(), ranges.Watch(self.graph, self.layers)
        names = {name for layer in self.layers for name in layer.rounded}
        for run in self.records.runs:
            found.add(watch.run(batch([run], self.shares_prefix)), names)
        weights = layers.channel_scales(self.graph, self.layers)
        self.scales = qdq.Scales(found.scales(), weights)
        del watch
        self.checks = [batch([run], self.shares_prefix) for run in self.records.checks]
        self.wanted = self.outputs(self.graph.finish())

    def outputs(self, model: onnx.ModelProto) -> list[np.ndarray]:
        """A model's output for each of the records set apart."""
        ran = session(model.SerializeToString(), self.folder)
        name = model.graph.output[0].name
        return [ran.run([name], inputs)[0] for inputs in self.checks]

    def units(self, large: bool) -> list[Unit]:
        """What each layer costs and saves, on records spread over pictures and timesteps."""
        runs = self.records.runs
        count = 1 if large else min(ROWS, len(runs))
        places = np.linspace(0, len(runs) - 1, count + 2).round().astype(int)[1:-1]
        started = time.perf_counter()

        def progress(done: int, of: int) -> None:
            if done % 50 == 0:
                self.log(f"  {done} of {of} measured, {time.perf_counter() - started:.0f} s")

        measuring = sensitivity.Pass(self.graph, self.layers, self.scales)
        return measuring.run(batch([runs[i] for i in places], self.shares_prefix), progress)

    def model(self, units: list[Unit]) -> onnx.ModelProto:
        """The graph with some units in 8 bits."""
        graph = self.graph.copy()
        qdq.insert(graph, [layer for unit in units for layer in unit.layers], self.scales)
        return graph.finish()

    def measure(self, units: list[Unit]) -> float:
        """The relative RMS of all the records set apart together."""
        found = self.outputs(self.model(units))
        loss, _ = compare(np.stack(found), np.stack(self.wanted))
        self.log(f"  {sum(len(unit.layers) for unit in units)} layers: loss {loss:.4f}")
        return loss

    def verified(self, model: onnx.ModelProto) -> Measured:
        """The error on the records set apart, for `bundle.yaml`."""
        latent = self.checks[0]["x" if "x" in self.checks[0] else "latent"]
        batch_size, _, height, width = latent.shape
        error = compare(np.stack(self.outputs(model)), np.stack(self.wanted))
        return Measured(batch_size, height, width, *error)

    def speed(self, model: onnx.ModelProto) -> float:
        """The exact graph's time over the model's, on one thread, in turns."""
        graphs = [self.graph.finish(), model]
        ran = [session(graph.SerializeToString(), self.folder, threads=1) for graph in graphs]
        times = np.zeros((TURNS + 1, 2))
        for turn in range(TURNS + 1):
            for place, one in enumerate(ran):
                start = time.perf_counter()
                one.run(None, self.checks[0])
                times[turn, place] = time.perf_counter() - start
        return float(np.median(times[1:, 0] / times[1:, 1]))


def decisions(
    units: list[Unit], chosen: list[Unit], of: dict[str, str], bound: float, loss: float
) -> dict[str, Any]:
    """What the variant's file says of how it was made."""
    taken = {id(unit) for unit in chosen}
    return {
        "of": of,
        "bound": bound,
        "loss": float(f"{loss:.3g}"),
        "layers": [
            {
                "name": unit.name,
                "outputs": [layer.y for layer in unit.layers],
                "error": float(f"{unit.error:.3g}"),
                "saved": unit.saved,
                "int8": id(unit) in taken,
            }
            for unit in choose.ordered(units)
        ],
    }


def report(units: list[Unit], chosen: list[Unit], log: Log) -> None:
    """Prints what was decided: the layers that stay, and sums."""
    taken = {id(unit) for unit in chosen}
    for unit in choose.ordered(units):
        if id(unit) not in taken:
            log(f"  stays f32: {unit.name}: loss {unit.error:.4f} alone, "
                f"{unit.saved / 1e6:.1f} M multiply-adds")  # fmt: skip
    share = sum(unit.saved for unit in chosen) / sum(unit.saved for unit in units)
    log(f"  {100 * share:.0f} % of what could be saved")


def write(
    folder: Path, new: Path, entry: dict[str, Any], records: Records, loss: float, log: Log
) -> dict[str, Any]:
    """Writes a graph's int8 variant into `new`; returns its entry for `bundle.yaml`."""
    base = whole(entry)
    log(f"{entry['file']}:")
    shares_prefix = base.get("shares_prefix", False)
    quantiser = Quantiser(Graph(folder / base["file"]), records, shares_prefix, log)
    large = sum((folder / name).stat().st_size for name in entry["files"]) >= LARGE
    units = quantiser.units(large)
    chosen, found = choose.choose(units, loss, quantiser.measure, entry["file"])
    model = quantiser.model(chosen)
    decided = decisions(units, chosen, origin(folder, entry), loss, found)
    onnx.helper.set_model_props(model, {KEY: json.dumps(decided)})
    path = new / file_name(entry)
    path.write_bytes(model.SerializeToString(deterministic=True))
    report(units, chosen, log)
    count = sum(len(unit.layers) for unit in chosen)
    faster = quantiser.speed(model)
    log(f"  {count} of {len(quantiser.layers)} layers in int8, loss {found:.4f}, "
        f"{faster:.2f} times as fast on one thread")  # fmt: skip
    return {
        "name": NAME,
        "provider": "cpu",
        "file": path.name,
        "precision": PRECISION,
        "role": "whole",
        "shares_prefix": shares_prefix,
        **{key: base[key] for key in ("deep", "left") if base.get(key)},
        "rewrites": {**base.get("rewrites", {}), KEY: count},
        "files": bundle.hashes([path]),
        "verified": [quantiser.verified(model).as_dict()],
    }
