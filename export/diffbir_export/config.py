"""Architecture sizes, read from the reference's YAML form.

A file is `{target: …, params: {…}}`. Every key is known: those that change a network are read,
those that only matter for training or are fixed by the official models are checked against the one
value that is supported, and anything else is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, UsageError


@dataclass(frozen=True)
class SwinIRConfig:
    """SwinIR with pixel unshuffle in front and nearest+conv upsampling behind."""

    img_size: int
    in_chans: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    mlp_ratio: float
    sf: int
    unshuffle: bool = False
    unshuffle_scale: int = 1
    num_feat: int = 64
    """Channels behind the transformer; not in the reference's files, where it is always 64."""


@dataclass(frozen=True)
class RRDBNetConfig:
    """RRDBNet: `nf` features, `nb` blocks, `gc` growth channels, scale `sf`.

    With `unshuffle` above 1, squares of so many pixels are folded into channels before it.
    """

    in_nc: int
    out_nc: int
    nf: int
    nb: int
    gc: int
    sf: int
    unshuffle: int = 1

    @property
    def doublings(self) -> int:
        """How often the network doubles the size of what it sees."""
        return (self.sf * self.unshuffle).bit_length() - 1


@dataclass(frozen=True)
class SCUNetConfig:
    """SCUNet: blocks per stage (three down, body, three up) and base width."""

    in_nc: int
    config: tuple[int, ...]
    dim: int
    input_resolution: int = 256


@dataclass(frozen=True)
class UNetConfig:
    """Stable Diffusion's UNet, and with `hint_channels > 0` the control module's encoder."""

    in_channels: int
    model_channels: int
    attention_resolutions: tuple[int, ...]
    num_res_blocks: int
    channel_mult: tuple[int, ...]
    num_head_channels: int
    context_dim: int
    out_channels: int = 4
    hint_channels: int = 0
    use_linear_in_transformer: bool = False
    transformer_depth: int = 1
    norm_groups: int = 32
    """Groups of every group normalisation; not in the reference's files, where it is always 32."""


@dataclass(frozen=True)
class VAEConfig:
    """Stable Diffusion's KL autoencoder."""

    embed_dim: int
    z_channels: int
    in_channels: int
    out_ch: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    norm_groups: int = 32
    """As in `UNetConfig`."""

    @property
    def downscale(self) -> int:
        """Picture pixels per latent pixel along one axis."""
        return 2 ** (len(self.ch_mult) - 1)


@dataclass(frozen=True)
class TextConfig:
    """OpenCLIP's text tower; `layer` says whether the last block is left out."""

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int
    layer: str = "last"

    @property
    def layers_run(self) -> int:
        """Number of transformer blocks that are run."""
        return self.layers - (self.layer == "penultimate")


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule's constants; betas are linear in their square roots."""

    timesteps: int
    linear_start: float
    linear_end: float
    zero_snr: bool = False
    parameterization: str = "eps"


@dataclass(frozen=True)
class ArchConfig:
    """Every network of one family."""

    swinir: SwinIRConfig
    bsrnet: RRDBNetConfig
    scunet: SCUNetConfig
    unet: UNetConfig
    control: UNetConfig
    vae: VAEConfig
    text: TextConfig
    diffusion: DiffusionConfig
    scale_factor: float


# Keys that do not change what is computed, whatever they say.
IRRELEVANT = {
    "swinir": {"drop_rate", "attn_drop_rate", "drop_path_rate", "use_checkpoint", "hq_key",
               "lq_key", "learning_rate", "weight_decay", "qk_scale"},
    "scunet": {"drop_path_rate"},
    "unet": {"use_checkpoint", "image_size", "dropout", "use_fp16"},
    "vae": {"resolution", "dropout", "double_z"},
    "text": set(),
    "rrdbnet": set(),
    "diffusion": {"loss_type"},
}  # fmt: skip

# Keys with one supported value.
FIXED = {
    "swinir": {"patch_size": 1, "img_range": 1.0, "upsampler": "nearest+conv",
               "resi_connection": "1conv", "qkv_bias": True, "ape": False, "patch_norm": True},
    "unet": {"use_spatial_transformer": True, "legacy": False, "dims": 2, "conv_resample": True},
    "vae": {"attn_resolutions": []},
    "diffusion": {"beta_schedule": "linear"},
}  # fmt: skip


def parse(cls: type, kind: str, values: dict[str, Any], where: str) -> Any:
    """Builds `cls` from a YAML mapping, or raises an `InputError` naming the key."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping, found {type(values).__name__}")
    fields = cls.__dataclass_fields__
    taken = {}
    for key, value in values.items():
        fixed = FIXED.get(kind, {})
        if key in fields:
            taken[key] = tuple(value) if isinstance(value, list) else value
        elif key in fixed:
            if value != fixed[key]:
                raise InputError(
                    f"{where}: {key}: {value!r} is not supported, only {fixed[key]!r} is"
                )
        elif key not in IRRELEVANT[kind]:
            raise InputError(f"{where}: unknown key {key!r}")
    try:
        return cls(**taken)
    except TypeError as error:
        raise InputError(f"{where}: {str(error).split('__init__() ')[-1]}") from None


def read_params(folder: Path | None, name: str) -> tuple[dict[str, Any], str]:
    """The `params` mapping of `folder/name`, or of the preset when `folder` is None."""
    if folder is None:
        text, where = resources.files("diffbir_export.presets").joinpath(name).read_text(), name
    else:
        path = folder / name
        where = str(path)
        if not path.is_file():
            raise UsageError(f"{path}: no such file (--arch-config needs {name})")
        text = path.read_text()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("params"), dict):
        raise InputError(f"{where}: expected a mapping with the key params")
    return document["params"], where


def load(folder: Path | None, family: str) -> ArchConfig:
    """Reads the sizes of `family` from `folder`, or the official ones when it is None."""
    cldm, where = read_params(folder, "cldm.yaml")
    for key in ("unet_cfg", "controlnet_cfg", "vae_cfg", "clip_cfg", "latent_scale_factor"):
        if key not in cldm:
            raise InputError(f"{where}: missing key {key!r}")
    vae, clip = cldm["vae_cfg"], cldm["clip_cfg"]
    swinir, bsrnet, scunet = (
        read_params(folder, f"{name}.yaml") for name in ("swinir", "bsrnet", "scunet")
    )
    diffusion = read_params(folder, f"diffusion{'_v2.1' if family == 'v2.1' else ''}.yaml")
    config = ArchConfig(
        swinir=parse(SwinIRConfig, "swinir", *swinir),
        bsrnet=parse(RRDBNetConfig, "rrdbnet", *bsrnet),
        scunet=parse(SCUNetConfig, "scunet", *scunet),
        unet=parse(UNetConfig, "unet", cldm["unet_cfg"], f"{where}: unet_cfg"),
        control=parse(UNetConfig, "unet", cldm["controlnet_cfg"], f"{where}: controlnet_cfg"),
        vae=parse(VAEConfig, "vae", {"embed_dim": vae.get("embed_dim"), **vae.get("ddconfig", {})},
                  f"{where}: vae_cfg"),
        text=parse(TextConfig, "text", {"layer": clip.get("layer", "last"), **clip["text_cfg"]},
                   f"{where}: clip_cfg"),
        diffusion=parse(DiffusionConfig, "diffusion", *diffusion),
        scale_factor=float(cldm["latent_scale_factor"]),
    )  # fmt: skip
    check(config, where)
    return config


CONTROL_OUTPUTS = 13


def check(config: ArchConfig, where: str) -> None:
    """Refuses sizes that the bundle's contracts cannot hold."""
    unet, control = config.unet, config.control
    outputs = 1 + len(unet.channel_mult) * (unet.num_res_blocks + 1)
    if outputs != CONTROL_OUTPUTS:
        raise InputError(f"{where}: unet_cfg has {outputs} control inputs, expected 13")
    if control.hint_channels <= 0:
        raise InputError(f"{where}: controlnet_cfg: hint_channels must be positive")
    shared = ("model_channels", "channel_mult", "num_res_blocks", "context_dim", "in_channels",
              "norm_groups")  # fmt: skip
    for key in shared:
        if getattr(unet, key) != getattr(control, key):
            raise InputError(f"{where}: unet_cfg and controlnet_cfg differ in {key}")
    if config.text.width != unet.context_dim:
        raise InputError(
            f"{where}: text width {config.text.width} is not context_dim {unet.context_dim}"
        )
    if config.text.layer not in ("last", "penultimate"):
        raise InputError(f"{where}: clip_cfg: layer must be last or penultimate")
    if config.diffusion.parameterization not in ("eps", "v"):
        raise InputError(f"{where}: diffusion: parameterization must be eps or v")
    if config.swinir.img_size <= config.swinir.window_size:
        raise InputError("swinir.yaml: img_size must be larger than window_size")
