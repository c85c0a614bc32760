"""Runs a graph on records and takes down what its layers see: ranges, sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnxruntime.quantization.quant_utils import compute_scale_zp

from ..bands import Arrays, session
from ..variants.graph import Graph
from .layers import Layer
from .qdq import Scale


class Watch:
    """A graph that hands out its layers' inputs and outputs beside its own outputs."""

    def __init__(self, graph: Graph, layers: list[Layer]) -> None:
        part = graph.copy()
        self.inputs = {value.name for value in part.inputs}
        self.output = part.output_names[0]
        watched = {name for layer in layers for name in (layer.x, layer.y)}
        extra = sorted(watched - self.inputs - set(part.output_names))
        part.outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in extra]
        self.names = part.output_names
        self.model = session(part.finish().SerializeToString(), Path(graph.path).parent)

    def run(self, inputs: Arrays) -> Arrays:
        """Every watched value, and the graph's inputs and outputs."""
        return inputs | dict(zip(self.names, self.model.run(self.names, inputs), strict=True))


@dataclass
class Ranges:
    """The smallest and the largest value of each tensor."""

    ends: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, values: Arrays, names: Iterable[str]) -> None:
        """Widens ranges by what a run showed."""
        for name in names:
            low, high = values[name].min(), values[name].max()
            if name in self.ends:
                low, high = min(low, self.ends[name][0]), max(high, self.ends[name][1])
            self.ends[name] = (low, high)

    def scales(self) -> dict[str, Scale]:
        """How each tensor is rounded to u8, by ONNX Runtime's own rule."""
        result: dict[str, Scale] = {}
        for name, (low, high) in self.ends.items():
            zero, scale = compute_scale_zp(low, high, np.array(0), np.array(255), False, 1e-6)
            result[name] = (np.float32(scale), np.uint8(zero))
        return result


def products(layer: Layer, graph: Graph, values: Arrays) -> int:
    """Multiply-adds of a layer in a run."""
    dims: list[int] = weight_dims(graph, layer, values)
    return int(values[layer.y].size * np.prod(dims))


def weight_dims(graph: Graph, layer: Layer, values: Arrays) -> list[int]:
    """What is summed over for each output: channels and kernel, or a matrix's rows."""
    if layer.op == "MatMul":
        return [values[layer.x].shape[-1]]
    maker: Any = graph.maker(layer.y)
    kernel = next(a for a in maker.attribute if a.name == "kernel_shape").ints
    group = next((a.i for a in maker.attribute if a.name == "group"), 1)
    return [values[layer.x].shape[1] // group, *kernel]
