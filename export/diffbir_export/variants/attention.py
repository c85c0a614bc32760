"""softmax(q k^T) v on split heads, as one operator of ONNX Runtime.

`com.microsoft.MultiHeadAttention` takes q, k and v as [N,L,C], splits the heads itself and goes
through the keys in blocks: the logits [N,heads,L,L] are never in memory as a whole. Its sums and
its softmax are f32, as in the graph that it replaces, whose softmax stands between casts where the
rest is fp16.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from .graph import CONTRIB, Graph, attributes, node

SPLIT, KEYS = [0, 2, 1, 3], [0, 2, 3, 1]


@dataclass(frozen=True)
class Found:
    """An attention: q, k, v and the result as [N,L,C], and the nodes from the logits on."""

    q: str
    k: str
    v: str
    heads: int
    scale: float
    result: str
    nodes: list[NodeProto]


def transposed(graph: Graph, name: str, perm: list[int]) -> str | None:
    """What a value was before it was transposed so."""
    maker = graph.made_by(name, "Transpose")
    return maker.input[0] if maker is not None and attributes(maker)["perm"] == perm else None


def heads_of(graph: Graph, split: str) -> tuple[str, int] | None:
    """Tokens [N,L,C] and the number of heads of [N,L,heads,d]."""
    reshape = graph.made_by(split, "Reshape")
    shape = reshape and graph.made_by(reshape.input[1], "Concat")
    if not shape or len(shape.input) != 4 or shape.input[2] not in graph.tensors:
        return None
    return reshape.input[0], int(graph.constant(shape.input[2])[0])


def find(graph: Graph, softmax: NodeProto) -> Found | None:
    """The attention around a softmax, if it is built as `PlainAttention` builds it."""
    to_f32 = graph.made_by(softmax.input[0], "Cast")
    to_half = graph.only_user(softmax.output[0], "Cast")
    logits = graph.made_by((to_f32 or softmax).input[0], "MatMul")
    scaled = logits and graph.made_by(logits.input[0], "Mul")
    weights = (to_half or softmax).output[0]
    mixed = graph.only_user(weights, "MatMul")
    if not scaled or mixed is None or mixed.input[0] != weights:
        return None
    if scaled.input[1] not in graph.tensors:
        return None
    parts = [transposed(graph, scaled.input[0], SPLIT), transposed(graph, logits.input[1], KEYS),
             transposed(graph, mixed.input[1], SPLIT)]  # fmt: skip
    split = [heads_of(graph, part) for part in parts if part]
    merge = graph.only_user(mixed.output[0], "Transpose")
    join = merge and graph.only_user(merge.output[0], "Reshape")
    if not join or attributes(merge)["perm"] != SPLIT or len(split) != 3 or None in split:
        return None
    (q, heads), (k, _), (v, _) = split
    scale = graph.constant(scaled.input[1])
    between = [node for node in (to_f32, softmax, to_half) if node]
    nodes = [logits, *between, mixed, merge, join]
    return Found(q, k, v, heads, float(scale), join.output[0], nodes)


def attention(graph: Graph) -> int:
    """Rewrites every attention without bias and mask; returns their number."""
    count = 0
    for softmax in [n for n in graph.nodes if n.op_type == "Softmax"]:
        if (found := find(graph, softmax)) is None:
            continue
        fused = node("MultiHeadAttention", [found.q, found.k, found.v], found.result,
                     domain=CONTRIB, num_heads=found.heads, scale=found.scale)  # fmt: skip
        graph.swap(found.nodes, [fused])
        count += 1
    return count
