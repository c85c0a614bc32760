"""A saved graph that can be changed; large weights stay in the file where they are.

A change takes nodes out and puts others in whose last output bears the old value's name, so nothing
behind it changes. Order and leftovers are put right at the end, by `finish`.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, ValueInfoProto, helper, numpy_helper

from ..errors import ExportError
from ..onnx_parts import Source

CONTRIB = "com.microsoft"


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


class Graph(Source):
    """Nodes, constants, inputs and outputs, with the lookups of `Source`."""

    def __init__(self, path: Path, model: onnx.ModelProto | None = None) -> None:
        super().__init__(path, model)
        graph = self.model.graph
        self.inputs, self.outputs = list(graph.input), list(graph.output)
        # What the exporter knew of every value; not written again, as a rewrite may change it.
        described = (*graph.input, *graph.output, *graph.value_info)
        self.described = {value.name: value for value in described}

    def refuse(self, why: str) -> ExportError:
        """The error for a graph that is not built as the exporter builds it."""
        return ExportError(f"{self.path.name}: cannot be rewritten: {why}")

    def copy(self) -> Graph:
        """An independent graph of the same state."""
        twin = Graph(self.path, self.snapshot())
        twin.described = self.described
        return twin

    def users_of(self, name: str) -> list[NodeProto]:
        """The nodes that use a value; a graph's output has one user more, outside of it."""
        return self.users.get(name, [])

    def only_user(self, name: str, op: str) -> NodeProto | None:
        """The node that alone uses a value, if it is of that kind."""
        users = self.users_of(name)
        if len(users) != 1 or users[0].op_type != op or name in self.output_names:
            return None
        return users[0]

    @property
    def output_names(self) -> list[str]:
        """The graph's outputs."""
        return [value.name for value in self.outputs]

    def made_by(self, name: str, op: str) -> NodeProto | None:
        """The node that makes a value, if it is of that kind."""
        return self.maker(name) if self.op(name) == op else None

    def swap(self, old: list[NodeProto], new: list[NodeProto]) -> None:
        """Takes nodes out and puts others where the first of them stood."""
        gone = {id(node) for node in old}
        place = next(i for i, node in enumerate(self.nodes) if id(node) in gone)
        before = [node for node in self.nodes[:place] if id(node) not in gone]
        after = [node for node in self.nodes[place:] if id(node) not in gone]
        self.nodes = [*before, *new, *after]
        self.index()

    def drop(self, old: NodeProto) -> None:
        """Takes a node out."""
        self.swap([old], [])

    def rename(self, old: str, new: str) -> None:
        """Gives a value another name wherever nodes make or use it."""
        for maker in self.nodes:
            for names in (maker.input, maker.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new
        self.index()

    def integers(self, name: str, values: list[int] | int) -> str:
        """A constant of integers."""
        return self.store(name, np.array(values, np.int64))

    def store(self, name: str, values: np.ndarray) -> str:
        """A constant."""
        self.tensors[name] = numpy_helper.from_array(values, name)
        return name

    def describe(self, name: str, batch: str) -> ValueInfoProto:
        """A value as an input or output [batch,...], its other axes as the exporter had them."""
        if name not in self.described:
            raise self.refuse(f"{name} has no known shape")
        value = ValueInfoProto()
        value.CopyFrom(self.described[name])
        value.type.tensor_type.shape.dim[0].dim_param = batch
        return value

    def sort(self) -> None:
        """Drops what no output needs and puts nodes behind those that they need."""
        needed, waiting = set(), list(self.output_names)
        while waiting:
            place = self.order.get(waiting.pop())
            if place is not None and place not in needed:
                needed.add(place)
                waiting += self.nodes[place].input
        missing, behind = {}, {}
        for place in needed:
            before = {self.order[i] for i in self.nodes[place].input if i in self.order}
            missing[place] = len(before)
            for other in before:
                behind.setdefault(other, []).append(place)
        ready, done = [place for place in needed if not missing[place]], []
        heapq.heapify(ready)
        while ready:
            place = heapq.heappop(ready)
            done.append(self.nodes[place])
            for other in behind.get(place, []):
                missing[other] -= 1
                if not missing[other]:
                    heapq.heappush(ready, other)
        self.nodes = done
        self.index()

    def finish(self) -> onnx.ModelProto:
        """The graph, sorted and without leftovers."""
        self.sort()
        return self.snapshot()

    def snapshot(self) -> onnx.ModelProto:
        """The graph in its present state."""
        used = {name for node in self.nodes for name in node.input}
        tensors = [tensor for name, tensor in self.tensors.items() if name in used]
        graph = helper.make_graph(
            self.nodes, self.model.graph.name, self.inputs, self.outputs, tensors
        )
        domains = {node.domain for node in self.nodes} - {o.domain for o in self.model.opset_import}
        versions = [*self.model.opset_import, *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        return helper.make_model(graph, opset_imports=versions, ir_version=self.model.ir_version)


def node(op: str, inputs: list[str], output: str | list[str], **values: Any) -> NodeProto:
    """A node with one or several outputs, without a name of its own."""
    outputs = [output] if isinstance(output, str) else output
    return helper.make_node(op, inputs, outputs, **values)
