"""The denoiser in parts that are loaded and run one after the other, for hosts short of memory.

Only one part's weights are in memory at a time. `NAME.cpu.parts.safetensors` holds the parts as
tensors "000", "001", ... (u8), each an ONNX graph whose weights lie in the base graph's data; its
metadata's `plan` is JSON that says which values each takes and makes. All of them are f32: what is
made of shapes, or of weights alone, is made anew in every part that needs it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper
from safetensors import safe_open

from ..bands import Arrays, session
from ..onnx_parts import write_graphs
from .graph import Graph
from .prefix import shape_values

VERSION = 1
COUNT = 4


@dataclass(frozen=True)
class Part:
    """One part: the names of what it takes and makes."""

    model: onnx.ModelProto
    inputs: list[str]
    outputs: list[str]


def size(graph: Graph, name: str) -> int:
    """Bytes of a stored constant."""
    tensor = graph.tensors[name]
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return math.prod(tensor.dims) * np.dtype(kind).itemsize


class Cutter:
    """Cuts a sorted graph into parts of about equal weight."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        shapes = shape_values(graph)
        self.kept: list[NodeProto] = []
        self.again: set[str] = set()
        """Values that are made anew where they are needed."""
        for node in graph.nodes:
            constant = all(not i or i in graph.tensors or i in self.again for i in node.input)
            if node.output[0] in shapes or (constant and not set(node.input) & shapes):
                self.again.update(node.output)
            else:
                self.kept.append(node)

    def closure(self, node: NodeProto) -> tuple[list[NodeProto], set[str], set[str]]:
        """A node behind all that is made anew for it; the values and the weights they take."""
        nodes, values, weights = [], set(), set()
        for name in node.input:
            if name in self.graph.tensors:
                weights.add(name)
            elif name in self.again:
                more = self.closure(self.graph.maker(name))
                nodes += more[0]
                values |= more[1]
                weights |= more[2]
            elif name:
                values.add(name)
        return [*nodes, node], values, weights

    def groups(self, count: int) -> list[list[NodeProto]]:
        """The kept nodes in runs of about equal weight."""
        seen: set[str] = set()
        weights = []
        for node in self.kept:
            new = self.closure(node)[2] - seen
            seen |= new
            weights.append(sum(size(self.graph, name) for name in new))
        total, so_far = sum(weights), 0
        result: list[list[NodeProto]] = [[] for _ in range(count)]
        for node, weight in zip(self.kept, weights, strict=True):
            place = (so_far + weight / 2) * count / total if total else 0
            result[min(int(place), count - 1)].append(node)
            so_far += weight
        return [group for group in result if group]

    def declare(self, name: str) -> onnx.ValueInfoProto:
        """A value of unknown shape, unless it is an input or output of the whole."""
        for value in (*self.graph.inputs, *self.graph.outputs):
            if value.name == name:
                return value
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    def part(self, group: list[NodeProto], wanted: set[str]) -> Part:
        """The part of `group`, which makes those of the values that are `wanted` later."""
        nodes: dict[int, NodeProto] = {}
        values: set[str] = set()
        weights: set[str] = set()
        for node in group:
            made_anew, more, used = self.closure(node)
            nodes |= {id(n): n for n in made_anew}
            values |= more
            weights |= used
        made = [name for node in group for name in node.output]
        inputs = sorted(values - set(made))
        outputs = [name for name in made if name in wanted]
        model = helper.make_model(
            helper.make_graph(
                list(nodes.values()),
                "part",
                [self.declare(name) for name in inputs],
                [self.declare(name) for name in outputs],
                [tensor for name, tensor in self.graph.tensors.items() if name in weights],
            ),
            opset_imports=self.graph.model.opset_import,
            ir_version=self.graph.model.ir_version,
        )
        return Part(model, inputs, outputs)

    def run(self, count: int) -> list[Part]:
        """All parts, in order."""
        wanted = set(self.graph.output_names)
        result = []
        for group in reversed(self.groups(count)):
            part = self.part(group, wanted)
            wanted |= set(part.inputs)
            result.append(part)
        return result[::-1]


def cut(model: onnx.ModelProto, base: Path, count: int = COUNT) -> list[Part]:
    """Cuts the graph `model`, whose large weights lie beside `base`."""
    graph = Graph(base, model)
    graph.sort()
    return Cutter(graph).run(count)


def write(parts: list[Part], path: Path) -> None:
    """Writes the parts' file."""
    listed = [
        {"graph": f"{i:03}", "inputs": part.inputs, "outputs": part.outputs}
        for i, part in enumerate(parts)
    ]
    write_graphs(path, [part.model for part in parts], {"version": VERSION, "parts": listed})


def run(path: Path, folder: Path, inputs: Arrays) -> Arrays:
    """Runs a file's parts one after the other; returns every value that passed between them."""
    values = dict(inputs)
    with safe_open(path, "numpy") as file:
        for part in json.loads(file.metadata()["plan"])["parts"]:
            model = session(file.get_tensor(part["graph"]).tobytes(), folder)
            found = model.run(part["outputs"], {name: values[name] for name in part["inputs"]})
            values |= dict(zip(part["outputs"], found, strict=True))
    return values
