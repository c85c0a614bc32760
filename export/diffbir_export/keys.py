"""Where each parameter of our modules lies in the official checkpoints.

The official layouts are CompVis's latent-diffusion names for UNet and VAE, OpenCLIP's for the text
tower, and the stage-one networks' own. A `Source` names the checkpoint key of one parameter; keys
that official files carry and nobody needs are listed in `IGNORED`, and anything else is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .config import ArchConfig, UNetConfig, VAEConfig

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.model."


class Source(NamedTuple):
    """One parameter's checkpoint key; `part` is its third of a stacked q, k, v weight."""

    role: str
    key: str
    part: int | None = None


KeyMap = Callable[[str], Source]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def ldm_resnet(rest: str) -> str:
    """A residual block's inner name: diffusers -> latent diffusion."""
    head, _, tail = rest.partition(".")
    return f"{RESNET[head]}.{tail}"


def unet_name(config: UNetConfig, name: str) -> str:
    """A diffusers UNet parameter's name in latent diffusion, without prefix."""
    per_level = config.num_res_blocks + 1
    fixed = {
        "conv_in.": "input_blocks.0.0.",
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
    }
    for prefix, replacement in fixed.items():
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, j, rest = match.groups()
        return (
            f"middle_block.{2 * int(j)}.{ldm_resnet(rest)}"
            if kind == "resnets"
            else (f"middle_block.1.{rest}")
        )
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if match is None:
        raise KeyError(name)
    side, level, kind, j, rest = match.groups()
    level, j = int(level), int(j)
    stack, first = ("input_blocks", 1) if side == "down" else ("output_blocks", 0)
    index = first + level * per_level + j
    if kind == "resnets":
        return f"{stack}.{index}.0.{ldm_resnet(rest)}"
    if kind == "attentions":
        return f"{stack}.{index}.1.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * per_level}.0.op.{rest.removeprefix('conv.')}"
    # An upsampler stands behind the level's last residual block and its attention, if any.
    factor = 2 ** (len(config.channel_mult) - 1 - level)
    place = 2 if factor in config.attention_resolutions else 1
    return f"output_blocks.{level * per_level + config.num_res_blocks}.{place}.{rest}"


VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae_name(config: VAEConfig, name: str) -> str:
    """A diffusers encoder or decoder parameter's name in latent diffusion, without prefix."""
    levels = len(config.ch_mult)
    name = name.replace("conv_norm_out.", "norm_out.").replace("conv_shortcut.", "nin_shortcut.")
    if match := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.+)", name):
        return f"{match[1]}.mid.block_{int(match[2]) + 1}.{match[3]}"
    if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
        return f"{match[1]}.mid.attn_1.{VAE_ATTENTION[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"(\w+)\.(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name):
        half, side, level, kind, j, rest = match.groups()
        # The checkpoint counts the decoder's levels from the finest.
        level = int(level) if side == "down" else levels - 1 - int(level)
        if kind == "resnets":
            return f"{half}.{side}.{level}.block.{j}.{rest}"
        return f"{half}.{side}.{level}.{side}sample.{rest}"
    return name


TEXT_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
TEXT_FIXED = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def text_source(name: str) -> Source:
    """A transformers text tower parameter's place in OpenCLIP's layout."""
    if name in TEXT_FIXED:
        return Source("sd", TEXT_PREFIX + TEXT_FIXED[name])
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    layer, inner, leaf = match.groups()
    block = f"{TEXT_PREFIX}transformer.resblocks.{layer}."
    if stacked := re.fullmatch(r"self_attn\.([qkv])_proj", inner):
        return Source("sd", f"{block}attn.in_proj_{leaf}", "qkv".index(stacked[1]))
    return Source("sd", f"{block}{TEXT_LAYER[inner]}.{leaf}")


def unet_map(config: UNetConfig) -> KeyMap:
    """Keys of `UNet`."""
    return lambda name: Source("sd", UNET_PREFIX + unet_name(config, name.removeprefix("model.")))


def control_map(config: UNetConfig) -> KeyMap:
    """Keys of `Control`."""

    def source(name: str) -> Source:
        if name.startswith("model."):
            return Source("control", unet_name(config, name.removeprefix("model.")))
        module, _, leaf = name.rpartition(".")
        return Source("control", f"{module}.0.{leaf}")

    return source


def denoiser_map(config: ArchConfig) -> KeyMap:
    """Keys of `Denoiser`."""
    unet, control = unet_map(config.unet), control_map(config.control)

    def source(name: str) -> Source:
        part, _, rest = name.partition(".")
        return unet(rest) if part == "unet" else control(rest)

    return source


def vae_map(config: VAEConfig) -> KeyMap:
    """Keys of `VAEEncoder` and `VAEDecoder`."""
    return lambda name: Source("sd", VAE_PREFIX + vae_name(config, name))


def text_map(name: str) -> Source:
    """Keys of `TextEncoder`."""
    return text_source(name.removeprefix("model."))


def cleaner_map(role: str) -> KeyMap:
    """Cleaners keep the checkpoint's own names."""
    return lambda name: Source(role, name)


# Carried by official checkpoints and not needed: moving averages, the schedule's buffers, training
# losses, OpenCLIP's contrastive head and mask, SwinIR's index and mask buffers.
IGNORED = {
    "sd": (
        r"model_ema\..+",
        r"betas|logvar|scale_factor|lvlb_weights",
        r"(sqrt_|log_|posterior_|alphas_cumprod).*",
        r"first_stage_model\.loss\..+",
        r"cond_stage_model\.model\.(text_projection|logit_scale|attn_mask)",
    ),
    "control": (),
    "swinir": (r".*\.relative_position_index", r".*\.attn_mask"),
    "bsrnet": (),
    "rrdbnet": (),
    "scunet": (),
}


def ignored_patterns(role: str, architecture: str | None, config: ArchConfig) -> tuple[str, ...]:
    """Patterns of the keys of `role`'s file that are passed over."""
    patterns = IGNORED[architecture or role]
    if role == "sd":
        skipped = range(config.text.layers_run, config.text.layers)
        blocks = (rf"cond_stage_model\.model\.transformer\.resblocks\.{i}\..+" for i in skipped)
        patterns = (*patterns, *blocks)
    return patterns
