"""A saved graph to look things up in, and small graphs made of its parts.

Large weights are external data and stay so: a part refers to the same bytes of the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from .errors import ExportError

LAYOUT = ("Cast", "Reshape", "Transpose")
# Constants of no more bytes lie in the graph's own file, wherever its weights are.
SMALL = 256


def external(tensor: TensorProto) -> dict[str, str]:
    """Where a tensor's bytes lie: `location`, `offset`, `length`."""
    return {entry.key: entry.value for entry in tensor.external_data}


def data_files(tensors: Iterable[TensorProto]) -> set[str]:
    """Names of the files in which constants lie that are not in the graph's own."""
    return {
        external(tensor)["location"]
        for tensor in tensors
        if tensor.data_location == TensorProto.EXTERNAL
    }


class Source:
    """A graph's nodes and constants by the names of the values they make."""

    def __init__(self, path: Path, model: onnx.ModelProto | None = None) -> None:
        self.path = path
        self.model = model or onnx.load(path, load_external_data=False)
        self.nodes = list(self.model.graph.node)
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.index()

    def index(self) -> None:
        """Brings the lookups by name up to date with `nodes`."""
        made = ((name, i) for i, node in enumerate(self.nodes) for name in node.output)
        self.order = {name: i for name, i in made if name}
        self.users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    @property
    def inline(self) -> bool:
        """Whether every weight lies in the graph's own file."""
        return all(t.data_location != TensorProto.EXTERNAL for t in self.tensors.values())

    def refuse(self, why: str) -> ExportError:
        """The error for a graph that is not built as the exporter builds it."""
        return ExportError(f"{self.path.name}: cannot be cut: {why}")

    def maker(self, name: str) -> NodeProto:
        """The node that computes a value."""
        if name not in self.order:
            raise self.refuse(f"no node makes {name}")
        return self.nodes[self.order[name]]

    def op(self, name: str) -> str:
        """The maker's operator; empty for inputs and constants."""
        return self.nodes[self.order[name]].op_type if name in self.order else ""

    def is_constant(self, name: str) -> bool:
        """Whether a value depends on weights alone, such as a cast of one."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self.order:
                waiting += self.maker(name).input
            elif name not in self.tensors:
                return False
        return True

    def constant(self, name: str) -> np.ndarray:
        """A stored constant's values."""
        if name not in self.tensors:
            raise self.refuse(f"{name} is not stored")
        return numpy_helper.to_array(self.tensors[name], str(self.path.parent))

    def dims(self, name: str) -> list[int]:
        """A constant's shape, seen through its casts."""
        while name in self.order:
            name = self.maker(name).input[0]
        return list(self.tensors[name].dims)

    def length(self, name: str) -> int:
        """Size of a constant's first axis, seen through its casts."""
        return self.dims(name)[0]

    def back(self, name: str, ops: tuple[str, ...] = LAYOUT) -> str:
        """What a value was before nodes of these kinds."""
        while self.op(name) in ops:
            name = self.maker(name).input[0]
        return name

    def onward(self, name: str, op: str, through: tuple[str, ...] = LAYOUT) -> NodeProto:
        """The one node of kind `op` that uses a value, perhaps behind nodes of other kinds."""
        while True:
            users = self.users.get(name, [])
            if found := [node for node in users if node.op_type == op]:
                return found[0]
            users = [node for node in users if node.op_type in through]
            if len(users) != 1:
                raise self.refuse(f"no {op} behind {name}")
            name = users[0].output[0]

    def split(self, node: NodeProto) -> tuple[str, str]:
        """The computed and the constant operand of a node with one of each."""
        constant = [self.is_constant(name) for name in node.input]
        if sorted(constant) != [False, True]:
            raise self.refuse(f"{node.op_type} {node.output[0]} has no constant operand")
        return node.input[constant.index(False)], node.input[constant.index(True)]


def write_graphs(path: Path, graphs: list[onnx.ModelProto], plan: dict[str, Any]) -> None:
    """Writes graphs as tensors "000", "001", ... (u8), and how to run them as JSON in `plan`."""
    tensors = {
        f"{i:03}": np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)
        for i, model in enumerate(graphs)
    }
    save_file(tensors, path, {"plan": json.dumps(plan)})
    path.chmod(0o644)  # save_file leaves it to its owner alone


class Part:
    """A graph in the making: inputs and outputs are f32 pictures [1,C,H,W] or [1,C,1,1]."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.made: set[str] = set()

    def take(self, name: str, channels: int, size: tuple[str | int, str | int]) -> str:
        """Declares an input [1,channels,*size]."""
        shape = [1, channels, *size]
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def give(self, name: str, channels: int) -> None:
        """Declares an output [1,channels,?,?]."""
        shape = [1, channels, None, None]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends a node; returns its output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def cast(self, name: str, half: bool, output: str) -> str:
        """The value as fp16 if `half`, else as it is."""
        return self.add("Cast", [name], output, to=TensorProto.FLOAT16) if half else name

    def integers(self, name: str, values: list[int]) -> str:
        """A constant of integers, such as a shape."""
        self.tensors[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def constant(self, name: str) -> str:
        """Takes a constant over from the source, with the nodes that make it."""
        if name in self.source.order:
            if name not in self.made:
                node = self.source.maker(name)
                self.made.update(node.output)
                for value in node.input:
                    self.constant(value)
                self.nodes.append(node)
        else:
            self.tensors[name] = self.source.tensors[name]
        return name

    def copy(self, node: NodeProto, renamed: dict[str, str]) -> None:
        """Takes a node over with its constants, values renamed."""
        copied = NodeProto()
        copied.CopyFrom(node)
        for names in (copied.input, copied.output):
            for i, name in enumerate(names):
                names[i] = renamed.get(name, name)
        for name in node.input:
            if name and self.source.is_constant(name):
                self.constant(name)
        self.nodes.append(copied)

    def model(self) -> onnx.ModelProto:
        """The finished graph, with the source's operator set."""
        graph = helper.make_graph(
            self.nodes, "segment", self.inputs, self.outputs, list(self.tensors.values())
        )
        versions = list(self.source.model.opset_import)
        return helper.make_model(
            graph, opset_imports=versions, ir_version=self.source.model.ir_version
        )
