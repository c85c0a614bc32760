"""The five stages: what each one trains, on which batches, with which loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffbir_export.config import ArchConfig
from diffbir_export.contracts import Contract
from diffbir_export.models.unet import UNet

from . import losses
from .data import Batch, Crops, generator
from .latents import Pool
from .networks import VAE, Critic, Sampler, alphas_cumprod, build_cleaner, build_denoiser

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """What differs between stages and devices."""

    batch: int
    crop: int
    rate: float
    ema: float = 0.998
    half: bool = False
    """Whether convolutions and products are computed in bfloat16."""

    def edge(self, step: int) -> int:
        """A step's crop: three of four are half as large, which gives twice the steps."""
        return self.crop if step % 4 == 0 else self.crop // 2


CPU = {
    "vae": Settings(8, 128, 1.2e-3, half=True),
    "decoder": Settings(4, 256, 8e-4, 0.995, half=True),
    "cleaner": Settings(8, 128, 2.5e-3, half=True),
    "unet": Settings(16, 256, 1e-3, half=True),
    "control": Settings(16, 256, 1e-3, half=True),
}
CUDA = {
    "vae": Settings(32, 256, 1.2e-3, 0.999, half=True),
    "decoder": Settings(32, 256, 1e-3, 0.999, half=True),
    "cleaner": Settings(32, 256, 2e-3, 0.999, half=True),
    "unet": Settings(128, 256, 1e-3, 0.999, half=True),
    "control": Settings(128, 256, 1e-3, 0.999, half=True),
}
NEEDS = {
    "vae": (),
    "cleaner": (),
    "unet": ("vae", "cleaner"),
    "control": ("unet",),
    "decoder": ("control",),
}
"""The stages whose results a stage is trained on."""


def _clean(settings: Settings, seed: int, crops: Crops, step: int) -> Batch:
    return crops.clean(settings.batch, settings.edge(step), generator(seed, "vae", step))


def _pairs(settings: Settings, seed: int, crops: Crops, step: int) -> Batch:
    return crops.pairs(settings.batch, settings.edge(step), generator(seed, "cleaner", step))


def to_tensor(pictures: np.ndarray, device: str) -> Tensor:
    """u8 [N,H,W,3] -> f32 [N,3,H,W] in [0,1]."""
    tensor = torch.from_numpy(pictures).to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).float().div(255)


class Stage:
    """A network in training. `sampler` makes a step's batch, `loss` its loss and parts to log."""

    name: str
    model: nn.Module

    def __init__(
        self, arch: ArchConfig, settings: Settings, device: str = "cpu", seed: int = 0
    ) -> None:
        self.arch, self.settings, self.device, self.seed = arch, settings, device, seed

    def trained(self) -> nn.Module:
        """The part whose weights change and are kept."""
        return self.model

    def sampler(self) -> Any:
        """`(crops, step) -> batch`, picklable; None if `batch` needs no pictures."""
        raise NotImplementedError

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """The loss to go down, and its parts."""
        raise NotImplementedError

    def torch_generator(self, step: int) -> torch.Generator:
        """The step's noise, the same on every device."""
        rng = generator(self.seed, f"{self.name} noise", step)
        return torch.Generator("cpu").manual_seed(int(rng.integers(2**62)))

    def precision(self) -> torch.autocast:
        """The context that the loss is computed in."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.settings.half)

    def normal(self, like: Tensor, g: torch.Generator) -> Tensor:
        """Standard normal values of a tensor's shape."""
        return torch.randn(like.shape, generator=g, device="cpu").to(self.device)


class VAEStage(Stage):
    """Autoencoder: L1, L1 of gradients and of Fourier coefficients, a small KL."""

    name = "vae"
    KL = 1e-4

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = VAE(self.arch).to(self.device, memory_format=torch.channels_last)

    def sampler(self) -> Any:
        """Clean crops."""
        return partial(_clean, self.settings, self.seed)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """See the class."""
        image = to_tensor(batch[0], self.device) * 2 - 1
        mean, logvar = self.model.moments(image)
        noise = self.normal(mean, self.torch_generator(step))
        result = self.model.decoder(mean + (0.5 * logvar).exp() * noise)
        (same, l1), divergence = losses.likeness(result, image), losses.kl(mean, logvar)
        parts = {"l1": l1, "kl": divergence, "psnr": losses.psnr(result, image)}
        return same + self.KL * divergence, parts


class CleanerStage(Stage):
    """SwinIR on degraded pictures: L1 and a little of the Fourier coefficients."""

    name = "cleaner"
    FREQUENCY = 0.1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = build_cleaner(self.arch, self.device)

    def sampler(self) -> Any:
        """Clean and degraded crops."""
        return partial(_pairs, self.settings, self.seed)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """Logs PSNR beside that of the enlarged input."""
        clean, low = (to_tensor(part, self.device) for part in batch)
        result = self.model(low)
        l1 = (result - clean).abs().mean()
        psnr, before = (-10 * (x.detach() - clean).square().mean((1, 2, 3)).log10().mean()
                        for x in (result, low))  # fmt: skip
        total = l1 + self.FREQUENCY * losses.frequency_l1(result, clean)
        return total, {"l1": l1, "psnr": psnr, "gain": psnr - before}


class DiffusionStage(Stage):
    """v-prediction on latents; timesteps are spread evenly over each batch."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        alphas = torch.from_numpy(alphas_cumprod(self.arch))
        self.root = alphas.sqrt().float().to(self.device)
        self.rest = (1 - alphas).sqrt().float().to(self.device)

    def bind(self, pool: Pool, context: Tensor) -> None:
        """Gives the stage its latents and the context of the empty prompt."""
        self.pool, self.context = pool, context.to(self.device)

    def sampler(self) -> Any:
        """Latents come from the pool."""
        return None

    def predict(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """The network's v."""
        raise NotImplementedError

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """Mean square error of v = sqrt(a) eps - sqrt(1-a) x0."""
        del batch
        rng = generator(self.seed, self.name, step)
        latent, hint = (x.to(self.device) for x in self.pool.draw(self.settings.batch, rng))
        count, steps = len(latent), len(self.root)
        spread = (rng.permutation(count) + rng.random(count)) / count * steps
        t = torch.from_numpy(spread.astype(np.int64)).to(self.device)
        root, rest = self.root[t][:, None, None, None], self.rest[t][:, None, None, None]
        noise = self.normal(latent, self.torch_generator(step))
        context = self.context.expand(count, -1, -1)
        v = self.predict(root * latent + rest * noise, t.float(), context, hint)
        each = (v - (root * noise - rest * latent)).square().mean((1, 2, 3))
        late = t >= steps // 2
        return each.mean(), {"early": each[~late].mean(), "late": each[late].mean()}


class UNetStage(DiffusionStage):
    """The UNet on latents of clean pictures, always with the one fixed context."""

    name = "unet"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = UNet(self.arch.unet).to(self.device)
        size = self.settings.crop // self.arch.vae.downscale
        shapes = Contract("unet", 1, 1, self.arch).control_shapes()
        self.nothing = [
            torch.zeros(1, c, size // down, size // down, device=self.device) for c, down in shapes
        ]

    def predict(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """Without control."""
        return self.model(x, t, context, *self.nothing)


class ControlStage(DiffusionStage):
    """The control module with the UNet frozen, on hints from the cleaner's output."""

    name = "control"

    def start(self, unet: dict[str, Tensor]) -> None:
        """Starts as a copy of the trained UNet's first half."""
        self.model = build_denoiser(self.arch, unet).to(self.device)
        self.strength = torch.ones(13, device=self.device)

    def trained(self) -> nn.Module:
        """The UNet's weights are kept by its own stage."""
        return self.model.control

    def predict(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """At full strength."""
        return self.model(x, t, context, hint, self.strength)


class DecoderStage(Stage):
    """The decoder alone, towards sharp pictures: a critic and the strength of detail.

    Half of each batch are latents of clean pictures, half are what the finished networks sample for
    degraded ones, errors and all: that is what it is going to see.
    """

    name = "decoder"
    ENERGY, ADVERSARIAL = 2.0, 0.8
    """The critic's gradient at the picture is `ADVERSARIAL` times as long as that of the rest."""

    def start(self, vae: VAE, sampler: Sampler) -> None:
        """Goes on from the trained autoencoder; `sampler` makes latents of degraded pictures."""
        self.vae, self.samples = vae, sampler
        critic = Critic().to(self.device, memory_format=torch.channels_last)
        self.model = nn.ModuleDict({"decoder": self.vae.decoder, "critic": critic})

    def sampler(self) -> Any:
        """Clean and degraded crops."""
        return partial(_pairs, self.settings, self.seed)

    @torch.no_grad()
    def latents(self, clean: Tensor, low: Tensor, step: int) -> Tensor:
        """Of clean pictures, then of as many degraded ones, unscaled."""
        g, half = self.torch_generator(step), len(clean) // 2
        mean, logvar = self.vae.moments(clean[:half] * 2 - 1)
        encoded = mean + (0.5 * logvar).exp() * self.normal(mean, g)
        noise = torch.randn(len(clean) - half, *mean.shape[1:], generator=g, device="cpu")
        return torch.cat([encoded, self.samples(low[half:], noise.to(self.device))])

    def judge(self, image: Tensor) -> Tensor:
        """The critic's opinion; its weights get no gradient."""
        critic = self.model["critic"]
        frozen = {name: value.detach() for name, value in critic.named_parameters()}
        return torch.func.functional_call(critic, frozen, (image,))

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """Both players' losses; a hinge for the critic."""
        clean, low = (to_tensor(part, self.device) for part in batch)
        image = clean * 2 - 1
        result = self.model["decoder"](self.latents(clean, low, step))
        found = result.detach().requires_grad_()
        (same, l1), energy = losses.likeness(found, image), losses.energy_l1(found, image)
        same = same + self.ENERGY * energy
        pull = [torch.autograd.grad(x, found)[0] for x in (same, -self.judge(found).mean())]
        ratio = pull[0].norm() / (pull[1].norm() + 1e-12)
        towards = (result * (pull[0] + self.ADVERSARIAL * ratio * pull[1])).sum()
        critic = self.model["critic"]
        real, fake = critic(image), critic(result.detach())
        hinge = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return towards + hinge, {"l1": l1, "energy": energy, "critic": hinge,
                                 "psnr": losses.psnr(found, image)}  # fmt: skip


STAGES = {
    "vae": VAEStage,
    "cleaner": CleanerStage,
    "unet": UNetStage,
    "control": ControlStage,
    "decoder": DecoderStage,
}
