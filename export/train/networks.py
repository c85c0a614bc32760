"""The exporter's own networks, ready to be trained, and their way into the official key layouts."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffbir_export import config, contexts, keys
from diffbir_export.config import ArchConfig
from diffbir_export.models.control import Denoiser
from diffbir_export.models.swinir import SwinIR
from diffbir_export.models.text import TextEncoder
from diffbir_export.models.unet import UNet
from diffbir_export.models.vae import VAEDecoder, VAEEncoder
from diffbir_export.quantize import latents
from diffbir_export.random_weights import random_tensor
from diffbir_export.weights import RandomWeights, fill, on_meta, source_shape

ARCH = Path(__file__).with_name("arch")
LOG_VARIANCE = -6.0
"""What the posterior's log variance starts from."""
TEXT_SEED = 0
"""The text tower stays random: its one use is the fixed context of the empty prompt."""


def load_arch(folder: Path = ARCH) -> ArchConfig:
    """The trained model's sizes."""
    return config.load(folder, "custom")


def initialise(module: nn.Module) -> nn.Module:
    """Convolutions of unit gain without bias, the second one of each residual block small.

    torch's own start has a third of that gain, and group normalisation then sees biases more than
    the picture: an autoencoder of this size first learns a flat grey for a long time.
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d):
            fan_in = child.weight[0].numel()
            gain = 0.2 if name.endswith("conv2") else 1.0
            nn.init.normal_(child.weight, 0.0, gain * fan_in**-0.5)
            nn.init.zeros_(child.bias)
    return module


class VAE(nn.Module):
    """Encoder and decoder with a latent scale of 1."""

    def __init__(self, arch: ArchConfig) -> None:
        super().__init__()
        self.encoder = VAEEncoder(arch.vae, 1.0)
        self.decoder = VAEDecoder(arch.vae, 1.0)
        initialise(self)
        # With a variance of one, noise hides the picture and the first hundreds of steps are lost.
        nn.init.constant_(self.encoder.quant_conv.bias[arch.vae.embed_dim :].data, LOG_VARIANCE)

    def moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the posterior, [N,4,H/8,W/8] each."""
        moments = self.encoder.quant_conv(self.encoder.encoder(image))
        mean, logvar = moments.float().chunk(2, dim=1)
        return mean, logvar.clamp(-20, 5)

    def encode(self, image: Tensor) -> Tensor:
        """The posterior's mode."""
        return self.encoder(image)


class Critic(nn.Module):
    """Judges patches of pictures [N,3,H,W] -> [N,1,H/8,W/8]: above 0 is real."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 32, 64, 64)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], 1, 3, padding=1))
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """`image` in [-1,1]."""
        return self.layers(image).float()


def build_cleaner(arch: ArchConfig, device: str) -> SwinIR:
    """SwinIR, its constants where its weights are."""
    model = initialise(SwinIR(arch.swinir))
    for module in model.modules():
        if hasattr(module, "relative_position_bias_table"):
            nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
    model.mean = model.mean.to(device)
    return model.to(device, memory_format=torch.channels_last)


def build_denoiser(arch: ArchConfig, unet: dict[str, Tensor]) -> Denoiser:
    """UNet with weights `unet`, frozen, and a control module copied from its first half.

    The hint's input weights and the 13 outgoing convolutions are zero.
    """
    model = Denoiser(arch.unet, arch.control)
    model.unet.load_state_dict(unet)
    model.unet.requires_grad_(False)
    source = model.unet.model.state_dict()
    state = {name: source[name] for name in model.control.model.state_dict()}
    first = torch.zeros_like(model.control.model.conv_in.weight)
    first[:, : arch.unet.in_channels] = state["conv_in.weight"]
    model.control.model.load_state_dict({**state, "conv_in.weight": first})
    for conv in (*model.control.zero_convs, model.control.middle_block_out):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    return model


class Sampler:
    """Conditions and noise [N,4,H/8,W/8] to sampled latents, unscaled.

    DDIM (Song et al., arXiv 2010.02502) on the timesteps of the program's spaced sampler: without
    noise, or with a generator as ancestral sampling, which is what that sampler does.
    """

    def __init__(self, arch: ArchConfig, denoiser: Denoiser, context: Tensor, factor: float,
                 steps: int) -> None:  # fmt: skip
        self.denoiser, self.context, self.factor = denoiser, context, factor
        self.alphas = alphas_cumprod(arch)
        self.times = np.linspace(len(self.alphas) - 1, 0, steps).round().astype(int).tolist()

    @torch.no_grad()
    def sample(self, hint: Tensor, x: Tensor, g: torch.Generator | None = None) -> Tensor:
        """From the unscaled latents of cleaned pictures."""
        hint = hint * self.factor
        context = self.context.expand(len(x), -1, -1)
        strength = torch.ones(13, device=x.device)
        for t, after in itertools.zip_longest(self.times, self.times[1:]):
            label = torch.full((len(x),), float(t), device=x.device)
            v = self.denoiser(x, label, context, hint, strength).float()
            root, rest = self.alphas[t] ** 0.5, (1 - self.alphas[t]) ** 0.5
            x0, eps = root * x - rest * v, rest * x + root * v
            if after is None:
                break
            a = self.alphas[after]
            variance = (1 - a) / (1 - self.alphas[t]) * (1 - self.alphas[t] / a) if g else 0.0
            x = a**0.5 * x0 + (1 - a - variance) ** 0.5 * eps
            if g:
                noise = torch.randn(x.shape, generator=g, device="cpu")
                x = x + variance**0.5 * noise.to(x.device)
        return x0 / self.factor


def alphas_cumprod(arch: ArchConfig) -> np.ndarray:
    """f64 [1000], the official schedule."""
    return latents.alphas_cumprod(asdict(arch.diffusion))


def empty_context(arch: ArchConfig) -> Tensor:
    """The context [1,77,C] of the empty prompt, as the exporter will write it."""
    with torch.device("cpu"), torch.no_grad():
        tower = fill(on_meta(lambda: TextEncoder(arch.text)), keys.text_map,
                     RandomWeights(TEXT_SEED), round_to_half=True)  # fmt: skip
        return tower(contexts.token_ids([""]))


def official(module: nn.Module, key_map: keys.KeyMap) -> dict[str, Tensor]:
    """A module's weights under the official names and shapes. Not for stacked weights."""
    result = {}
    for name, value in module.state_dict().items():
        source = key_map(name)
        shape = source_shape(name, value, source)
        result[source.key] = value.detach().cpu().reshape(shape).clone()
    return result


def text_state(arch: ArchConfig) -> dict[str, Tensor]:
    """The random text tower under the official names."""
    result = {}
    for name, value in on_meta(lambda: TextEncoder(arch.text)).named_parameters():
        source = keys.text_map(name)
        shape = source_shape(name, value, source)
        result[source.key] = random_tensor(TEXT_SEED, source.role, source.key, shape)
    return result


def checkpoints(
    arch: ArchConfig, vae: VAE, cleaner: SwinIR, denoiser: Denoiser
) -> dict[str, dict[str, Tensor]]:
    """Role -> the state dict of its file."""
    unet = UNet(arch.unet)
    unet.load_state_dict(denoiser.unet.state_dict())
    vae_map = keys.vae_map(arch.vae)
    return {
        "sd": {
            **official(vae.encoder, vae_map),
            **official(vae.decoder, vae_map),
            **official(unet, keys.unet_map(arch.unet)),
            **text_state(arch),
        },
        "control": official(denoiser.control, keys.control_map(arch.control)),
        "cleaner.sr": official(cleaner, keys.cleaner_map("cleaner.sr")),
    }
