"""What follows the matrix products of the transformer blocks, as ONNX Runtime's fused operators.

All of them take the sum before the layer's bias is added and add it themselves. In fp16 graphs the
layer normalisations stand between casts; the fused ones take and give fp16 and compute in f32
(`SkipLayerNormalization` if the session's option `enable_skip_layer_norm_strict_mode` is set, which
the engine does). Their scale and shift must have the values' type: they are rounded to fp16.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from .graph import CONTRIB, Graph, attributes, node

# Widths that the CUDA kernel of BiasSplitGelu was compiled for.
GELU_WIDTHS = (2560, 5120, 10240)


def unbiased(graph: Graph, name: str) -> tuple[str, str, NodeProto] | None:
    """A layer's product, its bias and the node that adds it, where a value is such a sum."""
    add = graph.made_by(name, "Add")
    if add is None:
        return None
    product, bias = add.input
    if graph.op(product) != "MatMul" or bias not in graph.tensors or len(graph.dims(bias)) != 1:
        return None
    return product, bias, add


def split_gelu(graph: Graph) -> None:
    """Rewrites a * gelu(b), where a and b are the halves of a layer's output."""
    for gelu in [n for n in graph.nodes if n.op_type == "Gelu"]:
        split = graph.made_by(gelu.input[0], "Split")
        layer = split and unbiased(graph, split.input[0])
        mul = graph.only_user(gelu.output[0], "Mul")
        if not layer or mul is None or list(split.output) != [mul.input[0], gelu.input[0]]:
            continue
        product, bias, add = layer
        if graph.dims(bias)[0] not in GELU_WIDTHS:
            raise graph.refuse(f"{mul.output[0]}: CUDA has no BiasSplitGelu of that width")
        fused = node("BiasSplitGelu", [product, bias], mul.output[0], domain=CONTRIB)
        graph.swap([add, split, gelu, mul], [fused])


def as_half(graph: Graph, name: str) -> str:
    """A constant in fp16."""
    if (half := f"{name}/half") not in graph.order:
        graph.nodes.append(node("Cast", [name], half, to=TensorProto.FLOAT16))
        graph.index()
    return half


def layer_norm(graph: Graph) -> None:
    """Rewrites normalisations of fp16 values, with the residual's addition where there is one."""
    for norm in [n for n in graph.nodes if n.op_type == "LayerNormalization"]:
        to_f32 = graph.made_by(norm.input[0], "Cast")
        to_half = graph.only_user(norm.output[0], "Cast")
        if to_f32 is None or to_half is None:
            raise graph.refuse(f"{norm.output[0]} is not between casts")
        value, result = to_f32.input[0], to_half.output[0]
        affine = [as_half(graph, name) for name in norm.input[1:]]
        epsilon = attributes(norm)["epsilon"]
        add = graph.made_by(value, "Add")
        if add is None or any(graph.is_constant(name) for name in add.input):
            fused = node("LayerNormalization", [value, *affine], result, axis=-1, epsilon=epsilon)
            graph.swap([to_f32, norm, to_half], [fused])
            continue
        x, skip = add.input
        layer = unbiased(graph, x)
        bias, old = [], [add]
        if layer and len(graph.users_of(x)) == 1:
            x, bias, old = layer[0], [layer[1]], [layer[2], add]
        fused = node("SkipLayerNormalization", [x, skip, *affine, *bias], [result, "", "", value],
                     domain=CONTRIB, epsilon=epsilon)  # fmt: skip
        graph.swap([*old, to_f32, norm, to_half], [fused])


def bias_add(graph: Graph) -> None:
    """Rewrites a layer's bias and the residual behind it, where no normalisation took both."""
    for add in [n for n in graph.nodes if n.op_type == "Add"]:
        layer = unbiased(graph, add.input[0])
        if not layer or len(graph.users_of(add.input[0])) != 1 or graph.is_constant(add.input[1]):
            continue
        product, bias, first = layer
        fused = node("BiasAdd", [product, bias, add.input[1]], add.output[0], domain=CONTRIB)
        graph.swap([first, add], [fused])
