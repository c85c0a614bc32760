"""The layers of a graph that may be quantised, and their weights' scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper

from ..bands import session
from ..variants.graph import Graph

OPS = ("Conv", "MatMul")
"""Gemm is left out: here it has one row for each picture, the timestep's, and nothing to save."""
QMAX = 127
TINY = 1e-8
"""Scales of channels without weight."""


@dataclass(frozen=True)
class Layer:
    """A convolution or a product with a constant matrix."""

    op: str
    x: str
    weight: str
    y: str
    """Its output: what it is known by."""

    @property
    def name(self) -> str:
        """Readable: its weight's name, or its output's where the weight has none of its own."""
        stem = self.weight.removesuffix(".float").removesuffix(".weight")
        return stem if "." in stem else self.y

    @property
    def axis(self) -> int:
        """The weight's axis of output channels."""
        return 0 if self.op == "Conv" else 1

    @property
    def rounds_output(self) -> bool:
        """Whether its result is 8 bits too: ONNX Runtime has no other integer convolution."""
        return self.op == "Conv"

    @property
    def rounded(self) -> list[str]:
        """The values that are rounded to 8 bits."""
        return [self.x, self.y] if self.rounds_output else [self.x]


def layer(node: NodeProto) -> Layer:
    """The layer that a node is."""
    return Layer(node.op_type, node.input[0], node.input[1], node.output[0])


def find(graph: Graph) -> list[Layer]:
    """All layers of a sorted graph, in its order."""
    # Not by `Source.is_constant`, which goes back from every value through the whole network.
    fixed = {"", *graph.tensors}
    found = []
    for node in graph.nodes:
        if all(name in fixed for name in node.input):
            fixed.update(node.output)
        elif node.op_type in OPS and node.input[1] in fixed:
            found.append(layer(node))
    return found


def constants(graph: Graph, names: list[str]) -> dict[str, np.ndarray]:
    """Values that depend on weights alone, as ONNX Runtime computes them."""
    found = {name: graph.constant(name) for name in names if name not in graph.order}
    if rest := [name for name in names if name in graph.order]:
        part = graph.copy()
        part.inputs = []
        part.outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in rest]
        model = session(part.finish().SerializeToString(), Path(graph.path).parent)
        found |= dict(zip(rest, model.run(rest, {}), strict=True))
    return found


def channel_scales(graph: Graph, found: list[Layer]) -> dict[str, np.ndarray]:
    """Weight -> what a step of 8 bits stands for, f32 for each output channel."""
    scales: dict[str, np.ndarray] = {}
    axes = {layer.weight: layer.axis for layer in found}
    derived = [name for name in axes if name in graph.order]
    for names in (derived, *([name] for name in axes if name not in graph.order)):
        for name, values in constants(graph, list(names)).items():
            rest = tuple(axis for axis in range(values.ndim) if axis != axes[name])
            scales[name] = np.maximum(np.abs(values).max(rest) / QMAX, TINY).astype(np.float32)
    return scales
