"""Turns a graph from NCHW to NHWC, the layout of tensor cores and of CUDA's fused operators.

A value may have two forms, plain and NHWC. Nodes that a picture passes through in NHWC take that
form of what they use and give that form; all others take and give the plain one. A form that is
missing is made by a Transpose, once. So Transposes are left at the graph's borders alone; those
between a picture and its pixels as tokens, [N,C,H,W] -> [N,H,W,C] -> [N,H*W,C], are no nodes now.

A kernel [O,I,h,w] is turned to [O,h,w,I] by a node that ONNX Runtime computes when it loads the
graph.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from .graph import CONTRIB, Graph, attributes, node

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
# Value by value, or along the batch: they are the same in any layout.
ANYWHERE = ("Add", "Cast", "Gather", "Mul")


class ChannelsLast:
    """One pass over a sorted graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.new: list[NodeProto] = []
        self.last: dict[str, str] = {}
        """NHWC forms by plain name."""
        self.gone: set[str] = set()
        """Values that have no plain form."""
        self.same: dict[str, str] = {}
        """Values that are no more, and those that they were the NHWC form of."""
        self.turned = {
            "Conv": self.conv,
            "GroupNorm": self.norm,
            "SkipGroupNorm": self.norm,
            "Concat": self.concat,
            "Resize": self.resize,
            "Pad": self.pad,
            "Transpose": self.transpose,
            **dict.fromkeys(ANYWHERE, self.anywhere),
        }

    def as_last(self, name: str) -> str:
        """The NHWC form of a picture or a kernel."""
        if name not in self.last:
            self.last[name] = f"{name}/nhwc"
            self.new.append(node("Transpose", [name], self.last[name], perm=LAST))
        return self.last[name]

    def as_plain(self, name: str) -> str:
        """The plain form of a value."""
        name = self.same.get(name, name)
        if name in self.gone:
            self.gone.remove(name)
            self.new.append(node("Transpose", [self.last[name]], name, perm=FIRST))
        return name

    def is_picture(self, name: str) -> bool:
        """Whether a value has four axes."""
        if name in self.last:
            return True
        known = self.graph.described.get(name)
        return known is not None and len(known.type.tensor_type.shape.dim) == 4

    def put(self, old: NodeProto, inputs: list[str], op: str = "", **values: object) -> None:
        """A node in NHWC in the place of another; `values` are beside or over its attributes."""
        domain = {"domain": CONTRIB} if op or old.domain else {}
        outputs = []
        for name in old.output:
            self.last[name] = f"{name}/nhwc"
            self.gone.add(name)
            outputs.append(self.last[name])
        self.new.append(
            node(op or old.op_type, inputs, outputs, **domain, **{**attributes(old), **values})
        )

    def conv(self, old: NodeProto) -> bool:
        """Conv becomes NhwcConv."""
        picture, kernel, *bias = old.input
        self.put(old, [self.as_last(picture), self.as_last(kernel), *bias], "NhwcConv")
        return True

    def norm(self, old: NodeProto) -> bool:
        """What is added to the channels, [N,C], stays as it is."""
        x, gamma, beta, *skip = old.input
        skip = [self.as_last(s) if self.is_picture(s) else self.as_plain(s) for s in skip]
        self.put(old, [self.as_last(x), gamma, beta, *skip], channels_last=1)
        return True

    def concat(self, old: NodeProto) -> bool:
        """Along the channels."""
        if attributes(old)["axis"] != 1 or not any(name in self.last for name in old.input):
            return False
        self.put(old, [self.as_last(name) for name in old.input], axis=3)
        return True

    def resize(self, old: NodeProto) -> bool:
        """By scales."""
        picture, roi, scales = old.input
        turned = self.graph.store(f"{scales}/nhwc", self.graph.constant(scales)[LAST])
        self.put(old, [self.as_last(picture), roi, turned])
        return True

    def pad(self, old: NodeProto) -> bool:
        """By constants."""
        picture, pads, value = old.input
        before, after = self.graph.constant(pads).reshape(2, 4)[:, LAST]
        turned = self.graph.store(f"{pads}/nhwc", np.concatenate([before, after]))
        self.put(old, [self.as_last(picture), turned, value])
        return True

    def transpose(self, old: NodeProto) -> bool:
        """Between the forms it is no node."""
        [name], [result], perm = old.input, old.output, attributes(old)["perm"]
        if perm == LAST and name in self.last:
            self.same[result] = self.last[name]
        elif perm == FIRST:
            self.last[result] = self.as_plain(name)
            self.gone.add(result)
        else:
            return False
        return True

    def anywhere(self, old: NodeProto) -> bool:
        """Where one of the inputs is in NHWC already."""
        if not any(name in self.last for name in old.input):
            return False
        self.put(old, [self.as_last(name) if self.is_picture(name) else self.as_plain(name)
                       for name in old.input])  # fmt: skip
        return True

    def run(self) -> None:
        """Turns all nodes."""
        for old in self.graph.nodes:
            turn = self.turned.get(old.op_type)
            if turn is None or not turn(old):
                for i, name in enumerate(old.input):
                    old.input[i] = self.as_plain(name)
                self.new.append(old)
        for name in self.graph.output_names:
            self.as_plain(name)
        self.graph.nodes = self.new
        self.graph.index()


def channels_last(graph: Graph) -> None:
    """Turns the graph; its inputs and outputs stay NCHW."""
    graph.sort()
    ChannelsLast(graph).run()
    graph.sort()
