"""What each layer alone, in 8 bits, costs of a graph's output, and what it saves.

A layer that is quantised alone sees what it sees in the exact graph. So its error is computed from
that, by a graph of the one layer with ONNX Runtime's own 8-bit kernel, and added to the layer's
output in the exact graph, which carries it to the end. That graph takes every layer's error as an
input that is zero unless given: one session does for all layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ..bands import Arrays, session
from ..onnx_parts import Source
from ..variants.graph import Graph, node
from ..verify import compare
from . import qdq, ranges
from .layers import Layer

Progress = Callable[[int, int], None]

VALUE_COST = 32
"""Multiply-adds that take as long as rounding a value and taking it back."""
SECONDS = 600.0
"""What the pass may take: if layers are too many for it, neighbours are measured as one."""


@dataclass(frozen=True)
class Unit:
    """Layers that are quantised together or not at all: mostly one."""

    layers: tuple[Layer, ...]
    error: float
    """Relative RMS at the graph's output with these in 8 bits and nothing else."""
    saved: int
    """Multiply-adds that are then in 8 bits, less what the rounding costs."""

    @property
    def name(self) -> str:
        """Its first layer's, and how many more there are."""
        more = len(self.layers) - 1
        return self.layers[0].name + (f" and {more} more" if more else "")


def with_errors(graph: Graph, layers: list[Layer]) -> Graph:
    """The graph with an input for each layer that is added to its output, zero by default."""
    part = graph.copy()
    for layer in layers:
        maker = part.maker(layer.y)
        maker.output[0] = f"{layer.y}/exact"
        error = part.store(f"{layer.y}/error", np.zeros(1, np.float32))
        part.inputs.append(helper.make_tensor_value_info(error, TensorProto.FLOAT, None))
        part.nodes.append(node("Add", [f"{layer.y}/exact", error], layer.y))
    part.index()
    return part


def alone(graph: Graph, layer: Layer) -> Graph:
    """A graph of one layer, from its input to its output."""
    maker = graph.maker(layer.y)
    nodes = [*constant_nodes(graph, maker.input[1:]), maker]
    names = {name for one in nodes for name in one.input}
    part = helper.make_graph(
        nodes,
        layer.name,
        [helper.make_tensor_value_info(layer.x, TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(layer.y, TensorProto.FLOAT, None)],
        [graph.tensors[name] for name in sorted(names & graph.tensors.keys())],
    )
    versions, version = graph.model.opset_import, graph.model.ir_version
    model = helper.make_model(part, opset_imports=versions, ir_version=version)
    return Graph(graph.path, model)


def constant_nodes(source: Source, names: Any) -> list[Any]:
    """The nodes that make constants."""
    found = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in source.order:
            found[source.order[name]] = source.maker(name)
            waiting += source.maker(name).input
    return [found[place] for place in sorted(found)]


class Pass:
    """Measures the layers of one graph on one run."""

    def __init__(self, graph: Graph, layers: list[Layer], scales: qdq.Scales) -> None:
        self.graph, self.layers, self.scales = graph, layers, scales
        self.folder = Path(graph.path).parent

    def error(self, layer: Layer, values: Arrays) -> np.ndarray:
        """What quantising a layer changes of its output."""
        part = alone(self.graph, layer)
        qdq.insert(part, [layer], self.scales)
        model = session(part.finish().SerializeToString(), self.folder)
        return model.run(None, {layer.x: values[layer.x]})[0] - values[layer.y]

    def saved(self, layer: Layer, values: Arrays) -> int:
        """What quantising a layer saves, in multiply-adds."""
        rounded = sum(values[name].size for name in layer.rounded)
        return ranges.products(layer, self.graph, values) - VALUE_COST * rounded

    def run(self, inputs: Arrays, progress: Progress) -> list[Unit]:
        """Every layer's error and saving, of those that save anything."""
        watch = ranges.Watch(self.graph, self.layers)
        values = watch.run(inputs)
        output = watch.output
        del watch
        worth = [layer for layer in self.layers if self.saved(layer, values) > 0]
        model = session(with_errors(self.graph, worth).finish().SerializeToString(), self.folder)
        start = time.perf_counter()
        wanted = model.run([output], inputs)[0]
        seconds = time.perf_counter() - start
        size = max(1, round(len(worth) * seconds / SECONDS + 0.5))
        groups = [worth[i : i + size] for i in range(0, len(worth), size)]
        units = []
        for number, group in enumerate(groups):
            progress(number, len(groups))
            errors = {f"{layer.y}/error": self.error(layer, values) for layer in group}
            found = model.run([output], inputs | errors)[0]
            saved = sum(self.saved(layer, values) for layer in group)
            units.append(Unit(tuple(group), compare(found, wanted)[0], saved))
        return units
