"""Group normalisation as ONNX Runtime's operators `GroupNorm` and `SkipGroupNorm`.

The exporter writes it as an InstanceNormalization of [N,groups,*] in f32, between reshapes and, in
an fp16 graph, casts. The fused ones take and give fp16, keep the statistics in f32, apply SiLU too
and take an addition before it along. They are written for NCHW here; `channels_last.py` turns them.
"""

from __future__ import annotations

from onnx import NodeProto

from ..patterns import Norm, find_norm
from .graph import CONTRIB, Graph, attributes, node

# The CUDA kernel reads channels in pairs, and a pair must not lie in two groups.
AT_ONCE = 2
TO_TOKENS, TO_PICTURE, SWAPPED = [0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1]


def vector(graph: Graph, name: str) -> str:
    """A constant [C,1,...] as [C]."""
    if (flat := f"{name}/flat") not in graph.order:
        shape = graph.integers("vector/shape", [-1])
        graph.nodes.append(node("Reshape", [name, shape], flat))
        graph.index()
    return flat


def silu_of(graph: Graph, name: str) -> str | None:
    """What x * sigmoid(x) of a value is called, if that is all that the value is used for."""
    users = graph.users_of(name)
    sigmoid = next((user for user in users if user.op_type == "Sigmoid"), None)
    mul = sigmoid and graph.only_user(sigmoid.output[0], "Mul")
    if not mul or len(users) != 2 or {*mul.input} != {name, sigmoid.output[0]}:
        return None
    return mul.output[0]


def rank(graph: Graph, name: str) -> int:
    """A value's number of axes."""
    return len(graph.described[name].type.tensor_type.shape.dim)


def fuse(graph: Graph, norm: Norm) -> None:
    """Rewrites one normalisation of [N,C,H,W], of which [N,C,H*W] may be what is used."""
    if graph.dims(norm.weight)[0] % (norm.groups * AT_ONCE):
        raise graph.refuse(f"{norm.result}: CUDA's GroupNorm takes an even number of channels a "
                           "group")  # fmt: skip
    to_half = graph.only_user(norm.result, "Cast") if norm.half else None
    if norm.half and to_half is None:
        raise graph.refuse(f"{norm.result} is not fp16 again")
    result = to_half.output[0] if to_half else norm.result
    silu = silu_of(graph, result)
    result, maker = silu or result, graph.maker(silu or result)
    flat = rank(graph, result) == 3
    picture = f"{result}/picture" if flat else result
    affine = [vector(graph, norm.weight), vector(graph, norm.bias)]
    nodes = [node("GroupNorm", [norm.canvas, *affine], picture, domain=CONTRIB, groups=norm.groups,
                  epsilon=norm.eps, activation=int(silu is not None), channels_last=0)]  # fmt: skip
    if flat:
        view = next(n for n in graph.users_of(norm.canvas) if n.op_type == "Reshape")
        nodes.append(node("Reshape", [picture, view.input[1]], result))
    graph.swap([maker], nodes)


def group_norm(graph: Graph) -> None:
    """Rewrites every group normalisation."""
    for found in [n for n in graph.nodes if n.op_type == "InstanceNormalization"]:
        fuse(graph, find_norm(graph, found))
    graph.sort()


def addends(graph: Graph, add: NodeProto) -> list[str] | None:
    """Two pictures of one size, or a picture and what is added to its channels, [N,C]."""
    for x, skip in (add.input, reversed(add.input)):
        second = graph.made_by(skip, "Unsqueeze")
        first = second and graph.made_by(second.input[0], "Unsqueeze")
        if first and rank(graph, first.input[0]) == 2:
            return [x, first.input[0]]
    shapes = [graph.described[name].type.tensor_type.shape for name in add.input]
    return list(add.input) if shapes[0] == shapes[1] and len(shapes[0].dim) == 4 else None


def skip_group_norm(graph: Graph) -> None:
    """Lets normalisations do the addition before them; the sum is an output if it is needed."""
    for norm in [n for n in graph.nodes if n.op_type == "GroupNorm"]:
        add = graph.made_by(norm.input[0], "Add")
        found = addends(graph, add) if add else None
        if not found:
            continue
        x, skip = found
        total = add.output[0]
        needed = len(graph.users_of(total)) > 1 or total in graph.output_names
        fused = node("SkipGroupNorm", [x, *norm.input[1:], skip],
                     [*norm.output, *([total] if needed else [])], domain=CONTRIB)  # fmt: skip
        fused.attribute.extend(norm.attribute)
        graph.swap([add, norm], [fused])
    graph.sort()


def tokens(graph: Graph) -> None:
    """Between a picture and its pixels as tokens, the autoencoder's attention goes over [N,C,H*W].

    Here [N,H,W,C] takes that place, as in the denoiser, which in NHWC is no change at all.
    """
    for turn in [n for n in graph.nodes if n.op_type == "Transpose"]:
        if attributes(turn)["perm"] != SWAPPED:
            continue
        view = graph.made_by(turn.input[0], "Reshape")
        back = graph.only_user(turn.output[0], "Reshape")
        if view:
            to_tokens(graph, view, turn)
        elif back and rank(graph, back.output[0]) == 4:
            to_picture(graph, turn, back)
    graph.sort()


def to_tokens(graph: Graph, view: NodeProto, turn: NodeProto) -> None:
    """[N,C,H,W] to [N,H*W,C]."""
    result = turn.output[0]
    channels = graph.described[result].type.tensor_type.shape.dim[2].dim_value
    shape = graph.integers(f"{result}/shape", [0, -1, channels])
    last = f"{result}/channels_last"
    graph.swap([turn], [node("Transpose", [view.input[0]], last, perm=TO_TOKENS),
                        node("Reshape", [last, shape], result)])  # fmt: skip


def to_picture(graph: Graph, turn: NodeProto, back: NodeProto) -> None:
    """[N,H*W,C] to [N,C,H,W]."""
    result = back.output[0]
    n, c, h, w = graph.maker(back.input[1]).input
    last, shape = f"{result}/channels_last", f"{result}/shape"
    graph.swap([turn, back], [node("Concat", [n, h, w, c], shape, axis=0),
                              node("Reshape", [turn.input[0], shape], last),
                              node("Transpose", [last], result, perm=TO_PICTURE)])  # fmt: skip
