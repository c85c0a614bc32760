"""The public DiffBIR code's networks in the place of the exporter's.

Only a checkout that the user has is imported. Its networks are filled with the tensors that the
bundle was made from, whose keys are the official checkpoints' and so its own.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from diffbir_export.keys import UNET_PREFIX, VAE_PREFIX, Source
from diffbir_export.weights import Weights
from torch import Tensor, nn

from .modules import Given, Modules, manifest, weights_of

CONFIGS = Path("configs/inference")


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Says what is missing; some packages are imported only when a network is built."""
    try:
        yield
    except ImportError as error:
        raise SystemExit(
            f"error: --reference {folder}: its code cannot be imported: {error}. Its packages have "
            "to be installed beside this one's"
        ) from None


def fill(module: nn.Module, weights: Weights, role: str, prefix: str = "") -> nn.Module:
    """Its parameters, by their names in the checkpoint of `role`."""
    state = {
        name: weights.tensor(Source(role, prefix + name), tuple(parameter.shape))
        for name, parameter in module.named_parameters()
    }
    module.load_state_dict(state, strict=False)
    return module.eval().requires_grad_(False)


class Denoiser(nn.Module):
    """Control module and UNet, called as the exporter's fused module is."""

    def __init__(self, unet: nn.Module, control: nn.Module) -> None:
        super().__init__()
        self.unet, self.control = unet, control

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, hint: Tensor,
                strength: Tensor) -> Tensor:  # fmt: skip
        """As `ControlLDM.forward`."""
        found = self.control(x=x, hint=hint, timesteps=timestep, context=context)
        controls = [c * s for c, s in zip(found, strength, strict=True)]
        return self.unet(x=x, timesteps=timestep, context=context, control=controls,
                         only_mid_control=False)  # fmt: skip


class Half(nn.Module):
    """One half of the autoencoder."""

    def __init__(self, vae: nn.Module, scale: float, decode: bool) -> None:
        super().__init__()
        self.vae, self.scale, self.decode = vae, scale, decode

    def forward(self, x: Tensor) -> Tensor:
        """As the exporter's modules: the mode, scaled, and back."""
        if self.decode:
            return self.vae.decode(x / self.scale)
        return self.vae.encode(x).mode() * self.scale


def put_in_place(found: Modules, given: Given, folder: Path) -> None:
    """Replaces denoiser and autoencoder; the cleaner, a few percent of a run, stays."""
    described = manifest(given.bundle)
    weights = weights_of(given, described)
    source = given.arch / "cldm.yaml" if given.arch else folder / CONFIGS / "cldm.yaml"
    sys.path.insert(0, str(folder))
    with told(folder):
        model = importlib.import_module("diffbir.model")
        sizes = yaml.safe_load(source.read_text())["params"]
        unet = model.ControlledUnetModel(**sizes["unet_cfg"])
        control = model.ControlNet(**sizes["controlnet_cfg"])
        vae = model.AutoencoderKL(**sizes["vae_cfg"])
    fill(vae, weights, "sd", VAE_PREFIX)
    scale = described["latent"]["scale_factor"]
    found.networks |= {
        "step": Denoiser(fill(unet, weights, "sd", UNET_PREFIX), fill(control, weights, "control")),
        "vae_encoder": Half(vae, scale, decode=False),
        "vae_decoder": Half(vae, scale, decode=True),
    }
