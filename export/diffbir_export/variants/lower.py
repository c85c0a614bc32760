"""The fused operators' definitions in plain ones: what a variant for CUDA is run with on a CPU.

They are written from what ONNX Runtime's documentation says of each operator, not from what the
rewrites replace, and compute in f32 inside. `widen` takes the rounding to fp16 out of a graph, so
that two graphs of the same mathematics agree to f32's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from .graph import CONTRIB, Graph, attributes, node

HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT


class Lowered:
    """The nodes in the place of one fused operator; their values are named after its output."""

    def __init__(self, graph: Graph, fused: NodeProto) -> None:
        self.graph, self.fused = graph, fused
        self.values = attributes(fused)
        self.nodes: list[NodeProto] = []

    def add(self, op: str, inputs: list[str], name: str = "", **values: object) -> str:
        """A node; its output is called so, or has a name of its own."""
        output = name or f"{self.fused.output[0]}/lowered_{len(self.nodes)}"
        domain = {"domain": CONTRIB} if op == "MultiHeadAttention" else {}
        self.nodes.append(node(op, inputs, output, **domain, **values))
        return output

    def integers(self, *values: int) -> str:
        """A constant."""
        return self.graph.integers(f"lowered/{values}", list(values))

    def number(self, value: float) -> str:
        """A constant, f32."""
        return self.graph.store(f"lowered/{value}", np.array(value, np.float32))

    def full(self, name: str) -> str:
        """A value as f32."""
        return self.add("Cast", [name], to=FULL)

    def half(self, name: str, result: str) -> None:
        """The result, as fp16."""
        self.add("Cast", [name], result, to=HALF)

    def length(self, name: str) -> int:
        """Size of a vector that is derived from a stored constant."""
        while name in self.graph.order:
            name = self.graph.maker(name).input[0]
        return int(np.prod(self.graph.dims(name)))

    def normalised(self, name: str, axes: list[int]) -> str:
        """(x - mean) / sqrt(variance + epsilon) over axes."""
        over = self.integers(*axes)
        centred = self.add("Sub", [name, self.add("ReduceMean", [name, over])])
        variance = self.add("ReduceMean", [self.add("Mul", [centred, centred]), over])
        shifted = self.add("Add", [variance, self.number(self.values["epsilon"])])
        return self.add("Div", [centred, self.add("Sqrt", [shifted])])

    def affine(self, name: str, scale: str, shift: str) -> str:
        """Scale and shift along the last axis."""
        scaled = self.add("Mul", [name, self.full(scale)])
        return self.add("Add", [scaled, self.full(shift)])

    def group_norm(self, picture: str) -> None:
        """Of [N,H,W,C] in f32, with SiLU if asked for."""
        gamma, beta = self.fused.input[1:3]
        groups = self.values["groups"]
        shape = self.integers(0, -1, groups, self.length(gamma) // groups)
        grouped = self.normalised(self.add("Reshape", [picture, shape]), [1, 3])
        back = self.add("Reshape", [grouped, self.add("Shape", [picture])])
        value = self.affine(back, gamma, beta)
        if self.values["activation"]:
            value = self.add("Mul", [value, self.add("Sigmoid", [value])])
        self.half(value, self.fused.output[0])


def group_norm(to: Lowered) -> None:
    """Of the first input."""
    assert to.values["channels_last"] == 1
    to.group_norm(to.full(to.fused.input[0]))


def skip_group_norm(to: Lowered) -> None:
    """Of the sum of the first input and the fourth, [N,H,W,C] or [N,C]; the sum is an output."""
    assert to.values["channels_last"] == 1
    x, gamma, _, skip = to.fused.input
    pixels = to.integers(0, -1, to.length(gamma))
    flat = [to.add("Reshape", [to.full(name), pixels]) for name in (x, skip)]
    total = to.add("Reshape", [to.add("Add", flat), to.add("Shape", [x])])
    to.group_norm(total)
    if len(to.fused.output) > 1:
        to.half(total, to.fused.output[1])


def nhwc_conv(to: Lowered) -> None:
    """Pictures [N,H,W,C], kernels [O,h,w,I]."""
    picture, kernel, *bias = to.fused.input
    inputs = [to.add("Transpose", [name], perm=[0, 3, 1, 2]) for name in (picture, kernel)]
    result = to.add("Conv", [*inputs, *bias], **to.values)
    to.add("Transpose", [result], to.fused.output[0], perm=[0, 2, 3, 1])


def attention(to: Lowered) -> None:
    """The CPU has the operator itself, in f32."""
    inputs = [to.full(name) for name in to.fused.input]
    to.half(to.add("MultiHeadAttention", inputs, **to.values), to.fused.output[0])


def skip_layer_norm(to: Lowered) -> None:
    """Of the sum of the first input, the second and the fifth, a vector; the sum is an output."""
    x, skip, gamma, beta, *bias = to.fused.input
    total = to.full(x)
    for name in (*bias, skip):
        total = to.add("Add", [total, to.full(name)])
    to.half(to.affine(to.normalised(total, [2]), gamma, beta), to.fused.output[0])
    to.half(total, to.fused.output[3])


def bias_split_gelu(to: Lowered) -> None:
    """The left half of x + bias, times gelu of the right half."""
    total = to.add("Add", [to.full(name) for name in to.fused.input])
    width = to.length(to.fused.input[1])
    ends = [to.integers(i * width // 2) for i in range(3)]
    left, right = (to.add("Slice", [total, *end, to.integers(2)]) for end in pairwise(ends))
    to.half(to.add("Mul", [left, to.add("Gelu", [right])]), to.fused.output[0])


def bias_add(to: Lowered) -> None:
    """x + bias + residual."""
    x, bias, residual = (to.full(name) for name in to.fused.input)
    to.half(to.add("Add", [to.add("Add", [x, bias]), residual]), to.fused.output[0])


DEFINITIONS: dict[str, Callable[[Lowered], None]] = {
    "BiasAdd": bias_add,
    "BiasSplitGelu": bias_split_gelu,
    "GroupNorm": group_norm,
    "MultiHeadAttention": attention,
    "NhwcConv": nhwc_conv,
    "SkipGroupNorm": skip_group_norm,
    "SkipLayerNormalization": skip_layer_norm,
}


def lower(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph in plain operators; its weights lie beside `path`."""
    graph = Graph(path, model).copy()
    nodes = []
    for found in graph.nodes:
        if found.domain != CONTRIB:
            nodes.append(found)
            continue
        to = Lowered(graph, found)
        DEFINITIONS[found.op_type](to)
        nodes += to.nodes
    graph.nodes = nodes
    graph.index()
    return graph.finish()


def widen(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph with f32 wherever it has fp16; weights are widened when it is loaded."""
    graph = Graph(path, model).copy()
    weights = {name for name, t in graph.tensors.items() if t.data_type == HALF}
    for found in graph.nodes:
        for i, name in enumerate(found.input):
            if name in weights:
                found.input[i] = f"{name}/full"
        for attribute in found.attribute:
            if found.op_type == "Cast" and attribute.i == HALF:
                attribute.i = FULL
    graph.nodes += [node("Cast", [name], f"{name}/full", to=FULL) for name in sorted(weights)]
    graph.index()
    return graph.finish()
