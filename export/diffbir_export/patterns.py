"""What an autoencoder's saved graph is made of: its group normalisations and its attention."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, helper

from .onnx_parts import Source


@dataclass(frozen=True)
class Norm:
    """A group normalisation of the value `canvas`."""

    canvas: str
    half: bool
    """Whether the canvas is fp16 in the graph."""
    weight: str
    bias: str
    groups: int
    eps: float
    result: str


@dataclass(frozen=True)
class Linear:
    """A matrix [C,C], transposed, and a vector [C]."""

    weight: str
    bias: str


@dataclass(frozen=True)
class Attention:
    """The middle block's attention, with one head, and the residual around it."""

    norm: Norm
    scale: str
    q: Linear
    k: Linear
    v: Linear
    out: Linear
    result: str

    @property
    def pictures(self) -> list[str]:
        """What q, k and v are called; no value of the graph has such a name."""
        return [f"{self.result}/{name}" for name in "qkv"]


def attribute(node: NodeProto, name: str) -> object:
    """An attribute that the exporter always writes."""
    return next(helper.get_attribute_value(a) for a in node.attribute if a.name == name)


def find_norm(source: Source, node: NodeProto) -> Norm:
    """The group normalisation around an InstanceNormalization over [N,groups,*]."""
    ones, zeros = (source.constant(name) for name in node.input[1:])
    if not (ones == 1).all() or zeros.any():
        raise source.refuse(f"{node.output[0]} is no plain group normalisation")
    canvas = source.back(node.input[0])
    # Layout changes keep the type: a cast among them says that the canvas is not f32.
    half = source.op(source.back(node.input[0], ("Reshape", "Transpose"))) == "Cast"
    scaled = source.onward(node.output[0], "Mul", ("Reshape",))
    shifted = source.onward(scaled.output[0], "Add", ())
    weight, bias = source.split(scaled)[1], source.split(shifted)[1]
    # f32 holds 1e-6 as 9.99999997e-07.
    eps = float(f"{attribute(node, 'epsilon'):.6g}")
    return Norm(canvas, half, weight, bias, len(ones), eps, shifted.output[0])


def find_linear(source: Source, name: str) -> tuple[str, Linear]:
    """The layer that a value comes from, behind changes of layout; its input first."""
    product, bias = source.split(source.maker(source.back(name)))
    tokens, weight = source.maker(product).input
    if source.op(product) != "MatMul" or not source.is_constant(weight):
        raise source.refuse(f"{product} is no linear layer")
    return source.back(tokens), Linear(weight, bias)


def find_attention(source: Source, softmax: NodeProto, norms: dict[str, Norm]) -> Attention:
    """The attention around a softmax."""
    left, right = source.maker(source.back(softmax.input[0])).input
    unscaled, scale = source.split(source.maker(source.back(left)))
    tokens, q = find_linear(source, unscaled)
    weighted = source.onward(softmax.output[0], "MatMul")
    projected = source.onward(weighted.output[0], "MatMul")
    biased = source.onward(projected.output[0], "Add", ())
    _, out = find_linear(source, biased.output[0])
    residual = source.onward(biased.output[0], "Add")
    k, v = find_linear(source, right), find_linear(source, weighted.input[1])
    if tokens not in norms or {k[0], v[0]} != {tokens}:
        raise source.refuse(f"{tokens} is no normalisation that q, k and v share")
    if norms[tokens].canvas not in residual.input:
        raise source.refuse(f"{residual.output[0]} is no residual")
    return Attention(norms[tokens], scale, q, k[1], v[1], out, residual.output[0])
