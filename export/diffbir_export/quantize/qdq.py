"""QuantizeLinear and DequantizeLinear around layers, as ONNX Runtime takes them for 8-bit ones.

Activations are u8 with one scale a tensor, weights i8 with one a channel. A weight stays where it
is, in 32 or 16 bits: its QuantizeLinear is a node that ONNX Runtime computes once, when it loads
the graph, and early enough to fuse a layer and what stands around it into `QLinearConv` or
`MatMulIntegerToFloat`. `onnxruntime.quantization` inserts the same nodes, but wants every weight as
a stored tensor, and writes all of them anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..variants.graph import Graph, node
from .layers import Layer

Scale = tuple[np.float32, np.uint8]
"""What a step stands for, and which step is zero."""


@dataclass
class Scales:
    """How values are rounded."""

    activations: dict[str, Scale]
    weights: dict[str, np.ndarray] = field(default_factory=dict)


class Inserter:
    """Puts layers of one graph into 8 bits."""

    def __init__(self, graph: Graph, scales: Scales) -> None:
        self.graph, self.scales = graph, scales
        self.made: dict[str, str] = {}

    def pair(self, name: str, result: str, scale: str, zero: str, **values: int) -> str:
        """Rounds a value; `result` is the rounded one."""
        bits = f"{result}/bits"
        self.graph.nodes.append(node("QuantizeLinear", [name, scale, zero], bits, **values))
        self.graph.nodes.append(node("DequantizeLinear", [bits, scale, zero], result, **values))
        return result

    def activation(self, name: str, result: str, key: str) -> str:
        """Rounds the activation `name`; its scale is that of `key`."""
        scale, zero = self.scales.activations[key]
        names = (f"{key}/scale", f"{key}/zero")
        self.graph.store(names[0], np.array(scale, np.float32))
        self.graph.store(names[1], np.array(zero, np.uint8))
        return self.pair(name, result, *names)

    def rounded(self, name: str) -> str:
        """The rounded activation, made once for all who take it."""
        if name not in self.made:
            self.made[name] = self.activation(name, f"{name}/rounded", name)
        return self.made[name]

    def weight(self, layer: Layer) -> str:
        """The rounded weight."""
        name = layer.weight
        if name not in self.made:
            scales = self.scales.weights[name]
            scale = self.graph.store(f"{name}/scale", scales)
            zero = self.graph.store(f"{name}/zero", np.zeros(len(scales), np.int8))
            self.made[name] = self.pair(name, f"{name}/rounded", scale, zero, axis=layer.axis)
        return self.made[name]

    def insert(self, layer: Layer) -> None:
        """Puts one layer into 8 bits."""
        maker = self.graph.maker(layer.y)
        maker.input[0], maker.input[1] = self.rounded(layer.x), self.weight(layer)
        if layer.rounds_output:
            maker.output[0] = f"{layer.y}/exact"
            self.activation(maker.output[0], layer.y, layer.y)


def insert(graph: Graph, layers: list[Layer], scales: Scales) -> None:
    """Puts layers of a graph into 8 bits."""
    inserter = Inserter(graph, scales)
    # The lookups by name stay those of before: an output's new maker only hands it on.
    for layer in layers:
        inserter.insert(layer)
    graph.index()
