"""The variants for CUDA: fp16 graphs in ONNX Runtime's fused operators, in NHWC.

All or an error: what is left of what should have been fused is named.
"""

from __future__ import annotations

from collections import Counter

from onnx import NodeProto

from .attention import attention
from .graph import Graph
from .group_norm import group_norm, skip_group_norm, tokens
from .tokens import bias_add, layer_norm, split_gelu

KINDS = ("vae_encoder", "vae_decoder", "denoiser")
# Operators in place of others, and what their number is called in `bundle.yaml`.
FUSED = {
    "BiasAdd": "bias_add",
    "BiasSplitGelu": "bias_split_gelu",
    "GroupNorm": "group_norm",
    "LayerNormalization": "layer_norm",
    "MultiHeadAttention": "attention",
    "NhwcConv": "nhwc_conv",
    "SkipGroupNorm": "skip_group_norm",
    "SkipLayerNormalization": "skip_layer_norm",
}
# Those of them that the CPU provider does not have.
CUDA_ONLY = ("BiasAdd", "BiasSplitGelu", "GroupNorm", "NhwcConv", "SkipGroupNorm")
# Nothing of these may be left. Convolutions are turned last, all of them.
REPLACED = ("Gelu", "InstanceNormalization", "Softmax")


def unscaled(graph: Graph) -> None:
    """Drops divisions by one: residual blocks have a scale that no network here uses."""
    for divided in [n for n in graph.nodes if n.op_type == "Div"]:
        value, by = divided.input
        if by in graph.tensors and graph.constant(by).tolist() == 1:
            rename(graph.users_of(divided.output[0]), divided.output[0], value)
            graph.drop(divided)


def rename(users: list[NodeProto], old: str, new: str) -> None:
    """Lets nodes use another value."""
    for user in users:
        for i, name in enumerate(user.input):
            if name == old:
                user.input[i] = new


def fuse(graph: Graph) -> None:
    """Rewrites an fp16 graph, still in NCHW."""
    for rewrite in (unscaled, attention, group_norm, tokens, skip_group_norm, split_gelu,
                    layer_norm, bias_add):  # fmt: skip
        rewrite(graph)
    graph.sort()
    left = sorted({n.op_type for n in graph.nodes} & set(REPLACED))
    if left:
        raise graph.refuse(f"it still has {', '.join(left)}")


def counts(graph: Graph) -> dict[str, int]:
    """How many of the fused operators a graph has."""
    found = Counter(n.op_type for n in graph.nodes)
    return {name: found[op] for op, name in FUSED.items() if found[op]}
