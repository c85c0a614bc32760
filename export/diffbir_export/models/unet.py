"""Stable Diffusion's UNet on diffusers' blocks.

`encode` is shared by the UNet and the control module, which is a copy of its first half.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..config import UNetConfig
from .attention import use_plain_attention


def build_unet(config: UNetConfig) -> UNet2DConditionModel:
    """diffusers' UNet with the sizes of `config`."""
    levels = range(len(config.channel_mult))
    attends = [2**level in config.attention_resolutions for level in levels]
    widths = tuple(config.model_channels * m for m in config.channel_mult)
    model = UNet2DConditionModel(
        in_channels=config.in_channels + config.hint_channels,
        out_channels=config.out_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
        block_out_channels=widths,
        layers_per_block=config.num_res_blocks,
        cross_attention_dim=config.context_dim,
        # diffusers takes the number of heads under this name.
        attention_head_dim=tuple(width // config.num_head_channels for width in widths),
        transformer_layers_per_block=config.transformer_depth,
        use_linear_projection=config.use_linear_in_transformer,
        norm_num_groups=config.norm_groups,
    )
    use_plain_attention(model)
    return model


def embed_time(model: UNet2DConditionModel, timestep: Tensor, dtype: torch.dtype) -> Tensor:
    """Sinusoidal embedding in f32, then two linear layers: [N] -> [N,4*model_channels]."""
    return model.time_embedding(model.time_proj(timestep).to(dtype))


def encode(
    model: UNet2DConditionModel, x: Tensor, emb: Tensor, context: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """First half and middle block: returns the middle's output and the 12 skip tensors."""
    h = model.conv_in(x)
    skips = [h]
    for block in model.down_blocks:
        if getattr(block, "has_cross_attention", False):
            h, states = block(h, temb=emb, encoder_hidden_states=context)
        else:
            h, states = block(h, temb=emb)
        skips.extend(states)
    return model.mid_block(h, temb=emb, encoder_hidden_states=context), skips


def decode(
    model: UNet2DConditionModel, h: Tensor, skips: list[Tensor], emb: Tensor, context: Tensor
) -> Tensor:
    """Second half: takes the skips from the last to the first."""
    skips = list(skips)
    for block in model.up_blocks:
        count = len(block.resnets)
        taken, skips = tuple(skips[-count:]), skips[:-count]
        if getattr(block, "has_cross_attention", False):
            h = block(h, taken, temb=emb, encoder_hidden_states=context)
        else:
            h = block(h, taken, temb=emb)
    return model.conv_out(model.conv_act(model.conv_norm_out(h)))


class UNet(nn.Module):
    """The UNet with 13 scaled control inputs: 12 for the skips, the last for the middle."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.model = build_unet(config)

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, *controls: Tensor) -> Tensor:
        """`x` [N,4,h,w], `timestep` f32 [N], `context` [N,77,C] -> eps or v [N,4,h,w]."""
        dtype = self.model.conv_in.weight.dtype
        context = context.to(dtype)
        emb = embed_time(self.model, timestep, dtype)
        h, skips = encode(self.model, x.to(dtype), emb, context)
        controls = tuple(c.to(dtype) for c in controls)
        skips = [skip + c for skip, c in zip(skips, controls[:-1], strict=True)]
        return decode(self.model, h + controls[-1], skips, emb, context).float()
