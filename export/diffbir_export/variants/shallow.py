"""Reuse of deep features between steps (DeepCache, arXiv 2312.00858): cuts the denoiser in two.

The last layers of the UNet's way up join what comes from below with a skip of the first level. What
comes from below changes slowly from step to step. So the full graph hands it out as `deep`, and a
second graph takes `deep` from an earlier step and computes only the rest: the skips of the first
level, of both networks, and the last layers.

Of the official denoiser's 537 G products at 64x64 the second graph needs, by the number of last
layers: 1: 6 %, 2: 22 %, 3: 39 % (the whole last level). One is the default, as in the paper.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from .graph import Graph, attributes, node

DEEP = "deep"
LAYERS = 1


def joins(graph: Graph) -> list[NodeProto]:
    """The nodes that join two pictures' channels, first to last."""
    return [
        join
        for join in graph.nodes
        if join.op_type == "Concat" and len(join.input) == 2 and attributes(join)["axis"] == 1
    ]


def hand_out(graph: Graph, batch: str, layers: int = LAYERS) -> None:
    """Makes what enters the last `layers` layers an output, `deep`, with `batch` rows."""
    found = joins(graph)
    if len(found) < layers:
        raise graph.refuse(f"it has no {layers} layers with a skip")
    value = found[-layers].input[0]
    output = graph.describe(value, batch)
    output.name = DEEP
    graph.rename(value, DEEP)
    graph.outputs.append(output)


def shallow(graph: Graph) -> Graph:
    """The graph that takes `deep`, which `graph` hands out, and makes the other outputs."""
    rest = graph.copy()
    [deep] = [value for value in rest.outputs if value.name == DEEP]
    rest.outputs.remove(deep)
    rest.inputs.append(deep)
    rest.drop(rest.maker(DEEP))
    rest.sort()
    return rest


def as_f32(graph: Graph) -> None:
    """Hands `deep` out, or takes it, in f32 where it is fp16: that is what passes between runs."""
    [border] = [value for value in (*graph.inputs, *graph.outputs) if value.name == DEEP]
    kind = border.type.tensor_type
    if kind.elem_type == TensorProto.FLOAT:
        return
    half = f"{DEEP}/half"
    graph.rename(DEEP, half)
    if border in graph.outputs:
        graph.nodes.append(node("Cast", [half], DEEP, to=TensorProto.FLOAT))
    else:
        graph.nodes.append(node("Cast", [DEEP], half, to=kind.elem_type))
    kind.elem_type = TensorProto.FLOAT
    graph.index()
