"""A graph whose weights another graph has too refers to that one's data file.

The decoder's reverse pass holds the decoder's weights: byte for byte, or as a transposed matrix,
which becomes a node that ONNX Runtime computes once, when it loads the graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from .graph import INLINE_BYTES
from .onnx_parts import SMALL, data_files, external

SHARED = {"vae_decoder_vjp": "vae_decoder"}
"""Graph -> the graph whose weights it repeats."""


class Weights:
    """The large weights of a graph, to be found by their bytes."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path, load_external_data=False)
        self.files = data_files(self.model.graph.initializer)
        self.found: dict[tuple[int, bytes], TensorProto] = {}
        self.turned: dict[tuple[int, bytes], TensorProto] = {}
        for tensor in self.model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                self.found.setdefault(key(tensor, content(tensor, path.parent)), tensor)
                if len(tensor.dims) == 2:
                    matrix = numpy_helper.to_array(tensor, str(path.parent))
                    self.turned.setdefault(key(tensor, matrix.T.tobytes()), tensor)


def key(tensor: TensorProto, data: bytes) -> tuple[int, bytes]:
    """What two tensors with equal values have in common."""
    return tensor.data_type, hashlib.sha256(data).digest()


def content(tensor: TensorProto, folder: Path) -> bytes:
    """A tensor's bytes."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return tensor.raw_data
    place = external(tensor)
    with (folder / place["location"]).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        return file.read(int(place["length"]))


def like(tensor: TensorProto, name: str, dims: list[int]) -> TensorProto:
    """A tensor whose bytes are those of another."""
    twin = TensorProto()
    twin.CopyFrom(tensor)
    twin.name, twin.dims[:] = name, dims
    return twin


def share(path: Path, other: Path) -> onnx.ModelProto | None:
    """The graph at `path`, its weights in the data file of `other` where that has them.

    What that has not comes into the graph's own file. None if there is nothing to change, or if
    that would be too much.
    """
    model, weights = onnx.load(path, load_external_data=False), Weights(other)
    graph, left, tensors, turns = model.graph, 0, [], []
    for tensor in graph.initializer:
        own = tensor.data_location == TensorProto.EXTERNAL
        if own and external(tensor)["location"] in weights.files:
            tensors.append(tensor)
            continue
        data = content(tensor, path.parent)
        found = key(tensor, data)
        if len(data) > SMALL and found in weights.found:
            tensors.append(like(weights.found[found], tensor.name, list(tensor.dims)))
        elif len(data) > SMALL and found in weights.turned:
            matrix = weights.turned[found]
            tensors.append(like(matrix, f"{tensor.name}/turned", list(matrix.dims)))
            turns.append(
                helper.make_node("Transpose", [tensors[-1].name], [tensor.name], perm=[1, 0])
            )
        elif own:
            values = {"data_type": tensor.data_type, "dims": tensor.dims, "raw_data": data}
            tensors.append(TensorProto(name=tensor.name, **values))
            left += len(data)
        else:
            tensors.append(tensor)
    if left > INLINE_BYTES or data_files(tensors) == data_files(graph.initializer):
        return None
    nodes = [*turns, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    return model
