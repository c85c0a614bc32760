"""Nearest-neighbour doubling and a 3x3 convolution, as smaller convolutions that are interleaved.

Of a doubled row, three neighbours are only two different ones. For one axis with taps w0 w1 w2, the
even outputs are [w0, w1+w2] on (i-1, i) and the odd ones [w0+w1, w2] on (i, i+1). Along both axes
that makes four 2x2 convolutions at the low resolution, 16 products for four pixels instead of 36,
and the doubled picture is never made. Narrow convolutions are phased along rows alone (two 2x3, 24
products): putting whole rows side by side costs less than single values do, and with few channels
that is what counts.

The sums of taps are nodes that depend on the stored kernel alone, so ONNX Runtime computes them
once, when it loads the graph.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from onnx import NodeProto

from .graph import Graph, attributes, node

DOUBLING = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric",
            "nearest_mode": b"floor"}  # fmt: skip
PLAIN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1],
         "group": 1, "auto_pad": b"NOTSET"}  # fmt: skip
# Input channels from which on both axes are phased. On two threads, ONNX Runtime 1.32, the gain of
# both axes or rows alone is 0.8 or 1.1 with 32 channels, 1.2 or 1.3 with 64, 1.7 or 1.3 with 128
# and 2.0 or 1.4 with 256.
WIDE = 128
# An activation that ONNX Runtime fuses into a convolution stays with it.
FUSED = ("LeakyRelu", "Relu")


def is_doubling(graph: Graph, resize: NodeProto) -> bool:
    """Whether a node repeats every row and column of [N,C,H,W] once."""
    found = attributes(resize)
    scales = resize.input[2] if len(resize.input) == 3 else ""
    return (
        scales in graph.tensors
        and graph.constant(scales).tolist() == [1, 1, 2, 2]
        and all(found.get(name) == value for name, value in DOUBLING.items())
    )


def doublings(graph: Graph) -> list[NodeProto]:
    """All such nodes."""
    return [n for n in graph.nodes if n.op_type == "Resize" and is_doubling(graph, n)]


def is_plain(conv: NodeProto) -> bool:
    """Whether a node is a 3x3 convolution that keeps the size."""
    found = attributes(conv) if conv.op_type == "Conv" else {}
    return all(found.get(name) == value for name, value in PLAIN.items())


def paired(kernel: str, axis: int, prefix: str) -> tuple[list[NodeProto], list[str]]:
    """Both phases' taps along an axis of [O,I,h,w] with three: nodes, and two kernels with two."""
    w = [f"{prefix}/tap_{i}" for i in range(3)]
    first, second = f"{prefix}/first", f"{prefix}/second"
    even, odd = f"{prefix}/even", f"{prefix}/odd"
    nodes = [
        node("Split", [kernel], w, axis=axis, num_outputs=3),
        node("Add", [w[0], w[1]], first),
        node("Add", [w[1], w[2]], second),
        node("Concat", [w[0], second], even, axis=axis),
        node("Concat", [first, w[2]], odd, axis=axis),
    ]
    return nodes, [even, odd]


class Phased:
    """The nodes that take the place of doubling `picture` [N,C,h,w], `conv` and `activation`."""

    def __init__(self, picture: str, conv: NodeProto, activation: NodeProto | None) -> None:
        self.picture, self.conv, self.activation = picture, conv, activation
        self.result = (activation or conv).output[0]
        self.kernel, *self.bias = conv.input[1:]
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, op: str, inputs: list[str], output: str, **values: object) -> str:
        """A node; its output's name is `output` behind the result's."""
        name = f"{self.result}/{output}"
        self.nodes.append(node(op, inputs, name, **values))
        return name

    def pair(self, kernel: str, axis: int, name: str) -> list[str]:
        """The kernels of both phases along an axis of [O,I,h,w] that has three taps."""
        nodes, kernels = paired(kernel, axis, f"{self.result}/{name}")
        self.nodes += nodes
        return kernels

    def convolve(self, picture: str, kernel: str, name: str, pads: list[int]) -> str:
        """One phase, activated."""
        shape = [2, 2 + (pads[1] == pads[3])]
        value = self.add("Conv", [picture, kernel, *self.bias], name, kernel_shape=shape, pads=pads,
                         strides=[1, 1], dilations=[1, 1], group=1)  # fmt: skip
        if self.activation:
            values = attributes(self.activation)
            value = self.add(self.activation.op_type, [value], f"{name}/activated", **values)
        return value

    def both_axes(self) -> None:
        """Four phases, put together value by value."""
        columns = self.pair(self.kernel, 3, "x")
        kernels = [self.pair(column, 2, f"{x}y") for x, column in enumerate(columns)]
        phases = [
            self.convolve(self.picture, kernels[x][y], f"phase_{y}{x}", [1 - y, 1 - x, y, x])
            for y, x in product(range(2), repeat=2)  # the order that DepthToSpace expects
        ]
        stacked = self.add("Concat", phases, "phases", axis=1)
        self.nodes.append(node("DepthToSpace", [stacked], self.result, blocksize=2, mode="DCR"))

    def rows(self, resize: NodeProto) -> None:
        """Columns are doubled as before; two phases, put together row by row."""
        scales, axis = f"{self.result}/scales", f"{self.result}/axis"
        before = f"{self.result}/sizes_before"
        self.constants = {
            scales: np.array([1, 1, 1, 2], np.float32),
            axis: np.array([3]),
            before: np.array([0, 0, -1]),
        }
        wide = self.add("Resize", [self.picture, "", scales], "wide", **attributes(resize))
        phases = []
        for y, kernel in enumerate(self.pair(self.kernel, 2, "y")):
            phase = self.convolve(wide, kernel, f"phase_{y}", [1 - y, 1, y, 1])
            phases.append(self.add("Unsqueeze", [phase, axis], f"rows_{y}"))
        stacked = self.add("Concat", phases, "rows", axis=3)  # [N,C,h,2,2w]
        width = self.add("Shape", [wide], "width", start=3)
        shape = self.add("Concat", [before, width], "shape", axis=0)
        self.nodes.append(node("Reshape", [stacked, shape], self.result))


def rewrite(graph: Graph, resize: NodeProto, conv: NodeProto) -> None:
    """Rewrites a convolution behind a doubling, with the activation behind it."""
    users = [graph.only_user(conv.output[0], op) for op in FUSED]
    activation = next((user for user in users if user), None)
    phased = Phased(resize.input[0], conv, activation)
    if graph.dims(phased.kernel)[1] >= WIDE:
        phased.both_axes()
    else:
        phased.rows(resize)
    for name, values in phased.constants.items():
        graph.store(name, values)
    graph.swap([conv, *([activation] if activation else [])], phased.nodes)


def phases(graph: Graph) -> int:
    """Rewrites every doubling that only such convolutions use; returns the number of those."""
    count = 0
    for resize in doublings(graph):
        convs = graph.users_of(resize.output[0])
        if not convs or not all(is_plain(conv) for conv in convs):
            continue
        for conv in convs:
            rewrite(graph, resize, conv)
            count += 1
        graph.drop(resize)
    return count
