"""A graph whose weights another graph has too refers to that one's data file.

The decoder's reverse pass holds the decoder's weights: byte for byte, or as a transposed matrix,
which becomes a node that ONNX Runtime computes once, when it loads the graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper, numpy_helper

from .graph import INLINE_BYTES
from .onnx_parts import SMALL, data_files, external

SHARED = {"vae_decoder_vjp": "vae_decoder"}
"""Graph -> the graph whose weights it repeats."""


class Place(NamedTuple):
    """Where a tensor's bytes lie."""

    file: str
    offset: int
    length: int


def content(tensor: TensorProto, folder: Path) -> bytes:
    """A tensor's bytes."""
    if tensor.data_location == TensorProto.EXTERNAL:
        place = external(tensor)
        with (folder / place["location"]).open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            return file.read(int(place["length"]))
    return tensor.raw_data


def key(data_type: int, data: bytes) -> tuple[int, bytes]:
    """What two equal tensors have in common."""
    return data_type, hashlib.sha256(data).digest()


def turned(tensor: TensorProto, folder: Path) -> bytes:
    """A matrix's bytes, transposed."""
    return numpy_helper.to_array(tensor, str(folder)).T.tobytes()


def refer(tensor: TensorProto, place: Place) -> None:
    """Lets a tensor lie in a file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    values = {"location": place.file, "offset": place.offset, "length": place.length}
    for name, value in values.items():
        tensor.external_data.add(key=name, value=str(value))


def share(path: Path, other: Path) -> onnx.ModelProto | None:
    """The graph at `path`, its weights in the data file of `other` where that has them.

    None if there is nothing to change, or if so much of its own would be left that it needs a data
    file all the same.
    """
    model, folder = onnx.load(path, load_external_data=False), path.parent
    stored: dict[tuple[int, bytes], Place] = {}
    matrices: dict[tuple[int, bytes], TensorProto] = {}
    source = onnx.load(other, load_external_data=False)
    theirs = data_files(source)
    for tensor in source.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            data, place = content(tensor, other.parent), external(tensor)
            at = Place(place["location"], int(place.get("offset", 0)), len(data))
            stored.setdefault(key(tensor.data_type, data), at)
            if len(tensor.dims) == 2:
                matrices.setdefault(key(tensor.data_type, turned(tensor, other.parent)), tensor)
    left, nodes, changed = 0, [], False
    for tensor in list(model.graph.initializer):
        if tensor.data_location == TensorProto.EXTERNAL:
            if external(tensor)["location"] in theirs:
                continue
        elif len(tensor.raw_data) <= SMALL:
            continue
        data = content(tensor, folder)
        found = key(tensor.data_type, data)
        if found in stored:
            refer(tensor, stored[found])
        elif found in matrices:
            nodes.append(transposed(tensor, matrices[found]))
            model.graph.initializer.remove(tensor)
        else:
            left += len(data)
            own = tensor.data_location == TensorProto.EXTERNAL
            if own:
                tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type,
                                            dims=tensor.dims, raw_data=data))  # fmt: skip
            changed |= own
            continue
        changed = True
    for node, tensor in nodes:
        model.graph.node.insert(0, node)
        model.graph.initializer.append(tensor)
    return model if changed and left < INLINE_BYTES else None


def transposed(tensor: TensorProto, matrix: TensorProto) -> tuple[onnx.NodeProto, TensorProto]:
    """A node that makes `tensor` of another graph's matrix, and that matrix."""
    name = f"{tensor.name}/transposed"
    twin = TensorProto()
    twin.CopyFrom(matrix)
    twin.name = name
    return helper.make_node("Transpose", [name], [tensor.name], perm=[1, 0]), twin
