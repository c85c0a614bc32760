"""The VAE decoder with its reverse pass written out.

torch 2.15 does not export a module that calls `torch.func.vjp`, and ONNX has no counterpart of
autograd's own operators. The decoder is a chain of few kinds of layer, so each kind's rule stands
here, made of operators that export as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

Pull = Callable[[Tensor], Tensor]
"""From the gradient at a layer's output to that at its input."""

Layer = Callable[[Tensor], tuple[Tensor, Pull]]
"""A layer's output and, at that input, its `Pull`."""


def chain(layers: list[Layer], x: Tensor) -> tuple[Tensor, Pull]:
    """One layer after another."""
    pulls = []
    for layer in layers:
        x, pull = layer(x)
        pulls.append(pull)

    def pull_all(g: Tensor) -> Tensor:
        for pull in reversed(pulls):
            g = pull(g)
        return g

    return x, pull_all


def conv(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Pull]:
    """A convolution that keeps the size; its adjoint is one with the kernel turned round.

    Not `conv_transpose2d`: ONNX Runtime's CPU kernel for that unfolds the whole picture, nine times
    an activation.
    """
    kernel = layer.weight.transpose(0, 1)
    if layer.kernel_size != (1, 1):
        kernel = kernel.flip(2, 3)
    return layer(x), lambda g: F.conv2d(g, kernel, padding=layer.padding)


def silu(x: Tensor) -> tuple[Tensor, Pull]:
    """x sigmoid(x)."""
    gate = x.sigmoid()
    return x * gate, lambda g: g * (gate * (1 + x * (1 - gate)))


def group_norm(layer: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Pull]:
    """Group normalisation; mean and deviation depend on the input as well."""
    groups = x.flatten(2).unflatten(1, (layer.num_groups, -1)).flatten(2)
    centred = groups - groups.mean(2, keepdim=True)
    rstd = (centred.square().mean(2, keepdim=True) + layer.eps).rsqrt()
    unit = centred * rstd
    weight, bias = layer.weight[:, None, None], layer.bias[:, None, None]

    def pull(g: Tensor) -> Tensor:
        g = (g * weight).reshape(unit.shape)
        g = g - g.mean(2, keepdim=True) - unit * (g * unit).mean(2, keepdim=True)
        return (g * rstd).reshape(x.shape)

    return unit.reshape(x.shape) * weight + bias, pull


def upsample(x: Tensor) -> tuple[Tensor, Pull]:
    """Twice the size, nearest: each value's gradient is the sum over its four copies."""
    y = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return y, lambda g: F.avg_pool2d(g, 2) * 4


def attend(attn: Attention, tokens: Tensor) -> tuple[Tensor, Pull]:
    """softmax(q k^T / sqrt(d)) v with one head, on [N,L,C], and the projection behind it."""
    q, k, v = attn.to_q(tokens) * attn.scale, attn.to_k(tokens), attn.to_v(tokens)
    weights = (q @ k.transpose(1, 2)).softmax(-1)

    def pull(g: Tensor) -> Tensor:
        g = g @ attn.to_out[0].weight
        g_weights = g @ v.transpose(1, 2)
        g_logits = weights * (g_weights - (g_weights * weights).sum(-1, keepdim=True))
        g_q, g_k = g_logits @ k * attn.scale, g_logits.transpose(1, 2) @ q
        g_v = weights.transpose(1, 2) @ g
        return g_q @ attn.to_q.weight + g_k @ attn.to_k.weight + g_v @ attn.to_v.weight

    return attn.to_out[0](weights @ v), pull


def attention(attn: Attention, x: Tensor) -> tuple[Tensor, Pull]:
    """The middle block's attention on a picture [N,C,H,W], with its residual."""
    if attn.heads != 1 or not attn.residual_connection or attn.rescale_output_factor != 1:
        raise NotImplementedError("the VAE's attention has one head and a plain residual")

    def to_tokens(picture: Tensor) -> Tensor:
        return picture.flatten(2).transpose(1, 2)

    def to_picture(tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(x.shape)

    normed, pull_norm = group_norm(attn.group_norm, x)
    out, pull = attend(attn, to_tokens(normed))
    return x + to_picture(out), lambda g: g + pull_norm(to_picture(pull(to_tokens(g))))


def resnet(block: ResnetBlock2D, x: Tensor) -> tuple[Tensor, Pull]:
    """Two convolutions beside a shortcut."""
    if block.time_emb_proj is not None or block.output_scale_factor != 1:
        raise NotImplementedError("the VAE's residual blocks know no time and no scale")
    y, pull = chain(
        [partial(group_norm, block.norm1), silu, partial(conv, block.conv1),
         partial(group_norm, block.norm2), silu, partial(conv, block.conv2)], x)  # fmt: skip
    if block.conv_shortcut is None:
        return x + y, lambda g: g + pull(g)
    shortcut, pull_shortcut = conv(block.conv_shortcut, x)
    return shortcut + y, lambda g: pull_shortcut(g) + pull(g)


def upsampler_layers(upsamplers: list[Upsample2D] | None) -> list[Layer]:
    """What stands behind a level's residual blocks, except at the finest."""
    if upsamplers is None:
        return []
    return [layer for u in upsamplers for layer in (upsample, partial(conv, u.conv))]


def decoder(network: Decoder, x: Tensor) -> tuple[Tensor, Pull]:
    """diffusers' `Decoder`."""
    middle = network.mid_block
    layers = [
        partial(conv, network.conv_in),
        partial(resnet, middle.resnets[0]),
        partial(attention, middle.attentions[0]),
        partial(resnet, middle.resnets[1]),
    ]
    for level in network.up_blocks:
        layers += [partial(resnet, block) for block in level.resnets]
        layers += upsampler_layers(level.upsamplers)
    layers += [partial(group_norm, network.conv_norm_out), silu, partial(conv, network.conv_out)]
    return chain(layers, x)


def autograd_vjp(network: nn.Module, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """The same of any network by torch: what the rules above are held against."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        y = network(x)
        [gradient] = torch.autograd.grad(y, x, cotangent)
    return y.detach(), gradient
