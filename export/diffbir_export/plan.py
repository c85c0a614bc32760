"""Which graphs a bundle gets, and where each one's weights come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from . import keys, rrdbnet_files
from .config import ArchConfig
from .contracts import Contract
from .errors import UsageError
from .families import FAMILIES, TASKS
from .models.control import Control, Denoiser
from .models.rrdbnet import RRDBNet
from .models.scunet import SCUNet
from .models.swinir import SwinIR
from .models.text import TextEncoder
from .models.unet import UNet
from .models.vae import VAEDecoder, VAEDecoderVJP, VAEEncoder
from .weights import on_meta

ROLES = ("sd", "control", *(f"cleaner.{task}" for task in TASKS))
CLEANERS = {
    "swinir": lambda config: SwinIR(config.swinir),
    "bsrnet": lambda config: RRDBNet(config.bsrnet),
    "scunet": lambda config: SCUNet(config.scunet),
}


@dataclass(frozen=True)
class Request:
    """One run of the exporter, as asked for."""

    family: str
    config: ArchConfig
    out: Path
    files: dict[str, Path]
    seed: int | None = None
    tasks: tuple[str, ...] = ()
    precision: str = "fp32"
    storage: str = "fp32"
    min_short_edge: int = 512
    split: bool = False
    text_encoder: bool = True
    guidance_graph: bool = False
    variants: bool = True
    overwrite: bool = False
    trained: bool = False
    """Whether the checkpoints come from this repository's own training."""

    @property
    def diffusion(self) -> bool:
        """Whether the bundle gets a diffusion model, or restoration modules alone."""
        return self.seed is not None or bool({"sd", "control"} & self.files.keys())


@dataclass(frozen=True)
class GraphPlan:
    """One graph: how to build its module, its weights' keys and its interface."""

    name: str
    architecture: str
    build: Callable[[], nn.Module]
    keys: keys.KeyMap
    contract: Contract
    f32_only: bool = False
    """Whether it computes in f32 whatever the bundle's precision."""


def cleaner_roles(request: Request) -> dict[str, str]:
    """Task -> the role whose weights its cleaner has.

    Tasks share a graph where they share architecture and file, or with random weights just the
    architecture.
    """
    roles: dict[str, str] = {}
    first: dict[tuple[str, Path | None], str] = {}
    for task in request.tasks:
        role = f"cleaner.{task}"
        file = request.files.get(role)
        architecture = FAMILIES[request.family].cleaners[task]
        if file and rrdbnet_files.read(file):
            architecture = "rrdbnet"
        identity = (architecture, file and file.resolve())
        roles[task] = first.setdefault(identity, role)
    return roles


def cleaner_plans(request: Request) -> list[GraphPlan]:
    """One plan for each distinct cleaner."""
    plans, config = [], request.config
    for task, role in cleaner_roles(request).items():
        if role != f"cleaner.{task}":
            continue
        architecture = FAMILIES[request.family].cleaners[task]
        build, key_map = partial(CLEANERS[architecture], config), keys.cleaner_map(role)
        if role in request.files and (found := rrdbnet_files.read(request.files[role])):
            architecture, build = "rrdbnet", partial(RRDBNet, found.config)
            key_map = found.keys(role)
        network = on_meta(build)
        multiple = network.multiple
        sizes = {
            "swinir": ((multiple, multiple), (2 * multiple, 3 * multiple)),
            "scunet": ((50, 70), (64, 128)),
        }.get(architecture, ((40, 56), (64, 32)))
        contract = Contract("cleaner", multiple, network.scale, config, sizes, network.halo)
        plans.append(GraphPlan(f"cleaner_{task}", architecture, build, key_map, contract))
    return plans


def vae_plans(config: ArchConfig, guidance_graph: bool) -> list[GraphPlan]:
    """Encoder and decoder, with `guidance_graph` the decoder's reverse pass too."""
    down, factor, key_map = config.vae.downscale, config.scale_factor, keys.vae_map(config.vae)
    encoder = Contract("vae_encoder", down, 1 / down, config, ((64, 64), (128, 96)))
    sizes = ((8, 8), (16, 12))
    decoder = Contract("vae_decoder", 1, down, config, sizes)
    plans = [
        GraphPlan("vae_encoder", "autoencoder_kl", lambda: VAEEncoder(config.vae, factor),
                  key_map, encoder),
        GraphPlan("vae_decoder", "autoencoder_kl", lambda: VAEDecoder(config.vae, factor),
                  key_map, decoder),
    ]  # fmt: skip
    if guidance_graph:
        contract = Contract("vae_decoder_vjp", 1, down, config, sizes)
        plans.append(
            GraphPlan("vae_decoder_vjp", "autoencoder_kl",
                      lambda: VAEDecoderVJP(config.vae, factor), key_map, contract, f32_only=True)
        )  # fmt: skip
    return plans


def text_plan(config: ArchConfig) -> GraphPlan:
    """The text tower; its only size is the context's length."""
    contract = Contract("text_encoder", 1, 1, config, ((1, config.text.context_length),))
    return GraphPlan(
        "text_encoder", "openclip_text", lambda: TextEncoder(config.text), keys.text_map, contract
    )


def denoiser_plans(config: ArchConfig, split: bool) -> list[GraphPlan]:
    """The fused denoiser and, if `split`, its two halves."""
    multiple = 2 ** (len(config.unet.channel_mult) - 1)
    # Not smaller: normalising groups of one or two values is ill-conditioned or refused.
    sizes = ((4 * multiple, 2 * multiple), (4 * multiple, 6 * multiple))
    plans = [
        GraphPlan("denoiser", "sd21_unet+control", lambda: Denoiser(config.unet, config.control),
                  keys.denoiser_map(config), Contract("denoiser", multiple, 1, config, sizes)),
    ]  # fmt: skip
    if split:
        plans += [
            GraphPlan("control", "sd21_control", lambda: Control(config.control),
                      keys.control_map(config.control),
                      Contract("control", multiple, 1, config, sizes)),
            GraphPlan("unet", "sd21_unet", lambda: UNet(config.unet), keys.unet_map(config.unet),
                      Contract("unet", multiple, 1, config, sizes)),
        ]  # fmt: skip
    return plans


def graph_plans(request: Request) -> list[GraphPlan]:
    """Every graph that is written, small ones first; restoration modules alone without a diffusion
    model."""
    plans = cleaner_plans(request)
    if not request.diffusion:
        return plans
    plans += vae_plans(request.config, request.guidance_graph)
    if request.text_encoder:
        plans.append(text_plan(request.config))
    return [*plans, *denoiser_plans(request.config, request.split)]


def check_roles(request: Request) -> None:
    """The roles that a bundle needs are there, and only those it can use."""
    if request.seed is not None:
        return
    for role in ("sd", "control"):
        if role not in request.files and request.diffusion:
            raise UsageError(f"--weights: {role}=FILE is missing")
    if not request.diffusion and (request.split or request.guidance_graph):
        raise UsageError("--split and --guidance-graph go with a diffusion model: give "
                         "--weights sd=FILE control=FILE too")  # fmt: skip
    if not request.tasks:
        raise UsageError("--weights: no cleaner: give at least one of cleaner.sr, cleaner.face, "
                         "cleaner.denoise")  # fmt: skip
