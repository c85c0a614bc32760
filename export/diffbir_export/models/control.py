"""DiffBIR's control module (IRControlNet) and its fusion with the UNet.

A trainable copy of the UNet's encoder and middle block on concat(x, hint), with a 1x1 convolution
("zero convolution", zero before training) on each of its 13 outputs. Key layout and order of the
outputs: the reference's diffbir/model/controlnet.py at 3f8b530.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import UNetConfig
from .unet import UNet, build_unet, embed_time, encode


def skip_channels(config: UNetConfig) -> list[int]:
    """Channels of the 12 skip tensors, first to last."""
    widths = [config.model_channels * m for m in config.channel_mult]
    channels = [config.model_channels]
    for level, width in enumerate(widths):
        last = level == len(widths) - 1
        channels += [width] * (config.num_res_blocks + (not last))
    return channels


class Control(nn.Module):
    """`forward` returns 13 tensors, each times its entry of `strength`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.model = build_unet(config)
        del self.model.up_blocks, self.model.conv_norm_out, self.model.conv_out
        channels = skip_channels(config)
        self.zero_convs = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels)
        self.middle_block_out = nn.Conv2d(channels[-1], channels[-1], 1)

    def forward(
        self, x: Tensor, timestep: Tensor, context: Tensor, hint: Tensor, strength: Tensor
    ) -> tuple[Tensor, ...]:
        """`x`, `hint` [N,4,h,w], `timestep` f32 [N], `context` [N,77,C], `strength` f32 [13]."""
        return tuple(c.float() for c in self.controls(x, timestep, context, hint, strength))

    def controls(
        self, x: Tensor, timestep: Tensor, context: Tensor, hint: Tensor, strength: Tensor
    ) -> list[Tensor]:
        """The outputs in the precision of the weights."""
        dtype = self.model.conv_in.weight.dtype
        emb = embed_time(self.model, timestep, dtype)
        both = torch.cat([x.to(dtype), hint.to(dtype)], dim=1)
        h, skips = encode(self.model, both, emb, context.to(dtype))
        outputs = [conv(skip) for conv, skip in zip(self.zero_convs, skips, strict=True)]
        outputs.append(self.middle_block_out(h))
        strengths = strength.to(dtype).unbind(0)
        return [output * s for output, s in zip(outputs, strengths, strict=True)]


class Denoiser(nn.Module):
    """Control module and UNet in one graph."""

    def __init__(self, unet: UNetConfig, control: UNetConfig) -> None:
        super().__init__()
        self.control = Control(control)
        self.unet = UNet(unet)

    def forward(
        self, x: Tensor, timestep: Tensor, context: Tensor, hint: Tensor, strength: Tensor
    ) -> Tensor:
        """Shapes as in `Control`; returns eps or v [N,4,h,w]."""
        controls = self.control.controls(x, timestep, context, hint, strength)
        return self.unet(x, timestep, context, *controls)
