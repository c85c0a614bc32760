"""Cuts an autoencoder's graph at its group normalisations.

Everything else in it is local, so between two normalisations a band of rows can be computed from
slightly more rows. What lies there is one segment, a graph of its own; the pictures between the
segments are called canvases. The cut works on the saved graph, whose weights partly have new names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import onnx
from onnx import NodeProto, TensorProto

from .onnx_parts import Part, Source
from .patterns import Attention, Linear, Norm, attribute, find_attention, find_norm
from .variants.graph import Graph
from .variants.phases import phases

SIZE = ("H", "W")
POINTWISE = ("Add", "Cast", "Concat", "Div", "LeakyRelu", "Mul", "Sigmoid", "Slice", "Sub")
MOST_LIVE = 2
"""Values that a network of convolutions alone may need at a place where it is cut: its features and
those before its blocks."""


@dataclass(frozen=True)
class Step:
    """A segment and the values it works on; `ratio` is output rows to a row of the bands."""

    model: onnx.ModelProto
    norm: Norm | None
    bands: list[str]
    whole: list[str]
    outputs: list[str]
    halo: int
    ratio: Fraction = Fraction(1)
    inner: int = 0
    """Channels of the widest value inside, in values to a cell of the bands, where they tell more
    than those of bands and outputs."""


@dataclass(frozen=True)
class Cut:
    """A graph's steps in order, and the channels of every canvas."""

    steps: list[Step]
    channels: dict[str, int]


def affine(part: Part, norm: Norm, channels: int) -> str:
    """Takes mean and 1/deviation [1,C,1,1] and normalises `band_0` with them, in f32."""
    mean, rstd = (part.take(name, channels, (1, 1)) for name in ("mean", "rstd"))
    shape = part.integers("norm/shape", [channels, 1, 1])
    weight, bias = (
        part.add("Reshape", [part.constant(getattr(norm, name)), shape], f"norm/{name}")
        for name in ("weight", "bias")
    )
    scale = part.add("Mul", [rstd, weight], "norm/scale")
    moved = part.add("Mul", [mean, scale], "norm/moved")
    shift = part.add("Sub", [bias, moved], "norm/shift")
    scaled = part.add("Mul", ["band_0", scale], "norm/scaled")
    return part.add("Add", [scaled, shift], norm.result)


def rows_before(source: Source, node: NodeProto, low: int, high: int) -> tuple[int, int, Fraction]:
    """Rows of a node's first input behind its output rows low..high; input rows to a row of it."""
    if node.op_type == "Conv":
        stride, kernel = attribute(node, "strides")[0], attribute(node, "kernel_shape")[0]
        top = attribute(node, "pads")[0]
        return low * stride - top, high * stride - top + kernel - 1, Fraction(stride)
    if node.op_type == "Pad":
        top = int(source.constant(node.input[1])[2])
        return low - top, high - top, Fraction(1)
    if node.op_type == "Resize":
        if source.constant(node.input[2]).tolist() != [1, 1, 2, 2]:
            raise source.refuse(f"{node.output[0]} does not double the size")
        return low // 2, high // 2, Fraction(1, 2)
    if node.op_type not in POINTWISE:
        raise source.refuse(f"{node.op_type} {node.output[0]} between two normalisations")
    return low, high, Fraction(1)


def halo(source: Source, nodes: list[NodeProto], bands: set[str]) -> tuple[int, Fraction]:
    """Further rows of the bands that the outermost rows need, and output rows to a row of them."""
    count = 64
    reach = {nodes[-1].output[0]: (0, count - 1, Fraction(1))}
    for node in reversed(nodes):
        low, high, scale = reach[node.output[0]]
        *before, factor = rows_before(source, node, low, high)
        for name in node.input:
            if name and not source.is_constant(name):
                other = reach.get(name, (*before, scale * factor))
                reach[name] = min(before[0], other[0]), max(before[1], other[1]), other[2]
    if len(scales := {reach[name][2] for name in bands}) != 1:
        raise source.refuse(f"{nodes[-1].output[0]} is made of pictures of several sizes")
    [scale] = scales
    core = count * scale
    rows = max(max(-reach[name][0], reach[name][1] - core + 1) for name in bands)
    # Where the size halves, a band that starts at an odd row would not fall on output rows.
    return int(rows + rows % 2 if scale == 2 else rows), 1 / scale


def between(source: Source, canvas: str, borders: set[str]) -> tuple[list[NodeProto], list[str]]:
    """The nodes that make `canvas`, in order, and those values of `borders` they start from."""
    found, starts, waiting = set(), [], [canvas]
    while waiting:
        name = waiting.pop()
        if name in borders and name != canvas:
            starts += [name] if name not in starts else []
        elif name and source.order[name] not in found:
            found.add(source.order[name])
            waiting += [i for i in source.maker(name).input if i and not source.is_constant(i)]
    return [source.nodes[i] for i in sorted(found)], starts


def local_step(
    source: Source, canvas: str, norms: dict[str, Norm], halves: dict[str, bool],
    channels: dict[str, int],
) -> Step:  # fmt: skip
    """The step that makes a canvas by convolutions, perhaps with a normalisation in front."""
    nodes, starts = between(source, canvas, {*halves, *norms})
    used = [norms[name] for name in starts if name in norms]
    if len(used) > 1:
        raise source.refuse(f"{canvas} needs two normalisations")
    norm = used[0] if used else None
    plain = [name for name in starts if name in halves]
    bands = list(dict.fromkeys([*([norm.canvas] if norm else []), *plain]))
    part, renamed = Part(source), {canvas: "out_0"}
    for i, name in enumerate(bands):
        band = part.take(f"band_{i}", channels[name], SIZE)
        if name in plain:
            renamed[name] = part.cast(band, halves[name], f"band_{i}/half")
    if norm:
        affine(part, norm, channels[norm.canvas])
    if halves[canvas]:
        renamed[canvas] = "out_0/half"
    for node in nodes:
        part.copy(node, renamed)
    if halves[canvas]:
        part.add("Cast", ["out_0/half"], "out_0", to=TensorProto.FLOAT)
    part.give("out_0", channels[canvas])
    rows, ratio = halo(source, nodes, set(starts))
    model = part.model()
    if not any(halves.values()):  # sums of taps would be rounded to fp16
        graph = Graph(source.path, model)
        model = graph.finish() if phases(graph) else model
    return Step(model, norm, bands, [], [canvas], rows, ratio)


def to_tokens(part: Part, name: str, half: bool) -> str:
    """[1,C,H,W] -> [1,C,H*W], as fp16 if `half`."""
    shape = part.integers("tokens", [0, 0, -1])
    return part.add("Reshape", [part.cast(name, half, f"{name}/half"), shape], f"{name}/tokens")


def linear(part: Part, layer: Linear, tokens: str, name: str) -> str:
    """The layer on tokens [1,C,L] as columns: no transposed copy of the picture is needed."""
    weight = part.add("Transpose", [part.constant(layer.weight)], f"{name}/weight", perm=[1, 0])
    column = part.integers("column", [-1, 1])
    bias = part.add("Reshape", [part.constant(layer.bias), column], f"{name}/bias")
    return part.add("Add", [part.add("MatMul", [weight, tokens], f"{name}/product"), bias], name)


def qkv_step(source: Source, attention: Attention, channels: int) -> Step:
    """q (scaled), k and v as pictures."""
    norm, part = attention.norm, Part(source)
    part.take("band_0", channels, SIZE)
    tokens = to_tokens(part, affine(part, norm, channels), norm.half)
    shape = part.add("Shape", ["band_0"], "shape")
    for i, layer in enumerate((attention.q, attention.k, attention.v)):
        value = linear(part, layer, tokens, f"linear_{i}")
        if i == 0:
            value = part.add("Mul", [value, part.constant(attention.scale)], "q")
        if norm.half:
            value = part.add("Cast", [value], f"linear_{i}/float", to=TensorProto.FLOAT)
        part.add("Reshape", [value, shape], f"out_{i}")
        part.give(f"out_{i}", channels)
    return Step(part.model(), norm, [norm.canvas], [], attention.pictures, 0)


def attend_step(source: Source, attention: Attention, channels: int) -> Step:
    """A band's tokens attend to all of k and v, which have a size of their own."""
    part, half = Part(source), attention.norm.half
    for i in range(2):
        part.take(f"band_{i}", channels, SIZE)
    for i in range(2):
        part.take(f"whole_{i}", channels, ("H2", "W2"))
    q, k, v = (to_tokens(part, name, half) for name in ("band_0", "whole_0", "whole_1"))
    logits = part.add("MatMul", [part.add("Transpose", [q], "q", perm=[0, 2, 1]), k], "logits")
    if half:
        logits = part.add("Cast", [logits], "logits/float", to=TensorProto.FLOAT)
    weights = part.add("Softmax", [logits], "weights", axis=-1)
    weights = part.cast(weights, half, "weights/half")
    mixed = part.add("MatMul", [weights, part.add("Transpose", [v], "v", perm=[0, 2, 1])], "mixed")
    mixed = part.add("Transpose", [mixed], "mixed/tokens", perm=[0, 2, 1])
    out = linear(part, attention.out, mixed, "out")
    out = part.add("Reshape", [out, part.add("Shape", ["band_0"], "shape")], "picture")
    x = part.cast("band_1", half, "band_1/half")
    total = part.add("Add", [out, x], "total" if half else "out_0")
    if half:
        part.add("Cast", [total], "out_0", to=TensorProto.FLOAT)
    part.give("out_0", channels)
    q, k, v = attention.pictures
    return Step(part.model(), None, [q, attention.norm.canvas], [k, v], [attention.result], 0)


def channels_of(source: Source, name: str) -> int:
    """Channels of a value of a network of convolutions."""
    node = source.maker(name)
    if node.op_type == "Conv":
        return source.length(node.input[1])
    inputs = [value for value in node.input if not source.is_constant(value)]
    if node.op_type == "Concat":
        return sum(channels_of(source, value) for value in inputs)
    return channels_of(source, inputs[0])


def live_values(source: Source) -> list[set[str]]:
    """The values behind each node that later nodes need."""
    last = {name: max(source.order[user.output[0]] for user in users)
            for name, users in source.users.items() if name in source.order}  # fmt: skip
    live, found = set(), []
    for i, node in enumerate(source.nodes):
        live |= {name for name in node.output if name in last and not source.is_constant(name)}
        live = {name for name in live if last[name] > i}
        found.append(set(live))
    return found


def cut_convolutions(source: Source) -> Cut:
    """All steps of RRDBNet: cut behind its blocks and before its doublings."""
    if len(source.model.graph.input) != 1 or len(source.model.graph.output) != 1:
        raise source.refuse("it has not one input and one output")
    [first], [last] = source.model.graph.input, source.model.graph.output
    doubled = {node.input[0] for node in source.nodes if node.op_type == "Resize"}
    canvases = {first.name, last.name}
    for node, live in zip(source.nodes, live_values(source), strict=True):
        border = node.op_type == "Add" or node.output[0] in doubled
        if border and len(live) <= MOST_LIVE:
            canvases |= live
    ordered = sorted(canvases - {first.name}, key=source.order.__getitem__)
    channels = {name: channels_of(source, name) for name in ordered}
    channels[first.name] = first.type.tensor_type.shape.dim[1].dim_value
    halves, steps = dict.fromkeys(canvases, False), []
    for canvas in ordered:
        step = local_step(source, canvas, {}, halves, channels)
        nodes, _ = between(source, canvas, canvases)
        widest = max(channels_of(source, node.output[0]) for node in nodes)
        steps.append(replace(step, inner=int(widest * step.ratio**2)))
    return Cut(steps, channels)


def cut(source: Source) -> Cut:
    """All steps of a graph with one input and one output picture: an autoencoder, or RRDBNet."""
    nodes = [n for n in source.nodes if n.op_type == "InstanceNormalization"]
    if not nodes:
        return cut_convolutions(source)
    norms = {norm.result: norm for norm in (find_norm(source, node) for node in nodes)}
    attentions = {a.result: a for a in (find_attention(source, node, norms)
                  for node in source.nodes if node.op_type == "Softmax")}  # fmt: skip
    halves = {norm.canvas: norm.half for norm in norms.values()}
    channels = {norm.canvas: source.length(norm.weight) for norm in norms.values()}
    [first], [last] = source.model.graph.input, source.model.graph.output
    for value in (first, last):
        halves[value.name] = False
        channels[value.name] = value.type.tensor_type.shape.dim[1].dim_value
    if strange := attentions.keys() - halves.keys():
        raise source.refuse(f"{', '.join(strange)} is not normalised")
    steps = []
    for canvas in sorted(halves.keys() - {first.name}, key=source.order.__getitem__):
        if attention := attentions.get(canvas):
            count = channels[attention.norm.canvas]
            channels |= dict.fromkeys(attention.pictures, count)
            steps += [f(source, attention, count) for f in (qkv_step, attend_step)]
        else:
            steps.append(local_step(source, canvas, norms, halves, channels))
    return Cut(steps, channels)
