"""Nearest-neighbour doubling and a 3x3 convolution, as four 2x2 convolutions at the low resolution.

Of a doubled row, three neighbours are only two different ones. For one axis with taps w0 w1 w2, the
even outputs are [w0, w1+w2] on (i-1, i) and the odd ones [w0+w1, w2] on (i, i+1): 16 products for
four pixels instead of 36, and the doubled picture is never made. The sums of taps are nodes that
depend on the stored kernel alone, so ONNX Runtime computes them once, when it loads the graph.
"""

from __future__ import annotations

from itertools import product

from onnx import NodeProto

from .graph import Graph, attributes, node

DOUBLING = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric",
            "nearest_mode": b"floor"}  # fmt: skip
PLAIN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1],
         "group": 1, "auto_pad": b"NOTSET"}  # fmt: skip
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


def phase_nodes(conv: NodeProto, picture: str, activation: NodeProto | None) -> list[NodeProto]:
    """What takes the place of doubling `picture` [N,C,h,w], of `conv` and of `activation`."""
    last = activation or conv
    result, (kernel, *bias) = last.output[0], conv.input[1:]
    nodes, columns = paired(kernel, 3, f"{result}/x")
    parts = {}
    for x, column in enumerate(columns):
        more, kernels = paired(column, 2, f"{result}/{x}y")
        nodes += more
        parts |= {(y, x): name for y, name in enumerate(kernels)}
    names = []
    for y, x in product(range(2), repeat=2):  # the order that DepthToSpace expects
        name = f"{result}/phase_{y}{x}"
        pads = [1 - y, 1 - x, y, x]
        nodes.append(
            node(
                "Conv",
                [picture, parts[y, x], *bias],
                name,
                kernel_shape=[2, 2],
                pads=pads,
                strides=[1, 1],
                dilations=[1, 1],
                group=1,
            )
        )
        if activation:
            before, name = name, f"{name}/activated"
            nodes.append(node(activation.op_type, [before], name, **attributes(activation)))
        names.append(name)
    stacked = f"{result}/phases"
    nodes.append(node("Concat", names, stacked, axis=1))
    nodes.append(node("DepthToSpace", [stacked], result, blocksize=2, mode="DCR"))
    return nodes


def phases(graph: Graph) -> int:
    """Rewrites every doubling that only such convolutions use; returns the number of those."""
    count = 0
    for resize in [n for n in graph.nodes if n.op_type == "Resize" and is_doubling(graph, n)]:
        convs = graph.users_of(resize.output[0])
        if not convs or not all(is_plain(conv) for conv in convs):
            continue
        for conv in convs:
            users = [graph.only_user(conv.output[0], op) for op in FUSED]
            activation = next((user for user in users if user), None)
            old = [conv, *([activation] if activation else [])]
            graph.swap(old, phase_nodes(conv, resize.input[0], activation))
            count += 1
        graph.drop(resize)
    return count
