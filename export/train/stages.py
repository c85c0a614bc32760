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
from .data import Batch, Taught, generator, to_tensor
from .features import Features
from .latents import Pool
from .networks import VAE, Critic, alphas_cumprod, build_cleaner, build_denoiser
from .samples import Samples

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
    whole_every: int = 4
    """All crops but one of so many are half as large, which gives more steps."""

    def edge(self, step: int) -> int:
        """A step's crop."""
        return self.crop if step % self.whole_every == 0 else self.crop // 2


CPU = {
    "vae": Settings(8, 128, 1.2e-3, half=True),
    "decoder": Settings(8, 128, 6e-4, 0.998, half=True, whole_every=1),
    "cleaner": Settings(8, 128, 1e-3, 0.999, half=True, whole_every=1),
    "unet": Settings(32, 256, 1e-3, half=True),
    "control": Settings(32, 256, 1e-3, half=True),
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


def _batch(name: str, settings: Settings, seed: int, taught: Taught, step: int) -> Batch:
    return taught.batch(settings.batch, settings.edge(step), generator(seed, name, step))


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
        """`(taught, step) -> batch`, picklable: degraded, clean and taught crops; None if `batch`
        needs no pictures."""
        return partial(_batch, self.name, self.settings, self.seed)

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
    """Autoencoder of the teacher's pictures, a quarter of photographs: L1, L1 of gradients and of
    Fourier coefficients, a small KL."""

    name = "vae"
    KL = 1e-4
    PHOTOGRAPHS = 4
    """One crop of so many is a photograph's."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = VAE(self.arch).to(self.device, memory_format=torch.channels_last)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """See the class."""
        _, clean, taught = batch
        count = len(taught) // self.PHOTOGRAPHS
        image = to_tensor(np.concatenate([clean[:count], taught[count:]]), self.device) * 2 - 1
        mean, logvar = self.model.moments(image)
        noise = self.normal(mean, self.torch_generator(step))
        result = self.model.decoder(mean + (0.5 * logvar).exp() * noise)
        (same, l1), divergence = losses.likeness(result, image), losses.kl(mean, logvar)
        parts = {"l1": l1, "kl": divergence, "psnr": losses.psnr(result, image)}
        return same + self.KL * divergence, parts


class CleanerStage(Stage):
    """SwinIR on degraded pictures, towards PSNR: the mean logarithm of the square errors.

    Its target is the mean of the photograph and the teacher's picture: half of what the teacher
    reads from the input stays in the picture, where the later networks can find it.
    """

    name = "cleaner"
    FLOOR = 1e-4
    """Added to a crop's square error, so that flat crops are not all that counts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = build_cleaner(self.arch, self.device)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """Logs PSNR beside that of the enlarged input."""
        low, clean, taught = (to_tensor(part, self.device) for part in batch)
        clean = (clean + taught) / 2
        result = self.model(low)
        error, before = ((x - clean).square().mean((1, 2, 3)) for x in (result, low))
        psnr = -10 * error.detach().log10().mean()
        gain = psnr + 10 * before.log10().mean()
        return (error + self.FLOOR).log().mean(), {"psnr": psnr, "gain": gain}


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
        side = self.settings.edge(step) // self.arch.vae.downscale
        drawn = self.pool.draw(self.settings.batch, side, rng)
        latent, hint = (part.to(self.device) for part in drawn)
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
        self.shapes = Contract("unet", 1, 1, self.arch).control_shapes()

    def predict(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """Without control."""
        side = x.shape[2]
        nothing = (x.new_zeros(1, c, side // down, side // down) for c, down in self.shapes)
        return self.model(x, t, context, *nothing)


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
    """The decoder alone, towards the teacher's pictures, on latents that the finished networks
    sampled for degraded pictures, errors and all, which is what it is going to see; a quarter are
    latents of the teacher's pictures.

    A sample is not quite its picture's latent, and what asks for detail at each pixel ends in blur
    there: so features of a network that has seen photographs count as much, and a critic of
    patches a little. Each one's weight is the length of its gradient at the picture, relative to
    that of the pixels' loss.
    """

    name = "decoder"
    PERCEPTUAL, ADVERSARIAL = 1.5, 0.3
    FADE = 300
    """Steps until a new critic has its full say."""

    def start(self, decoder: nn.Module, samples: Samples, features: Features) -> None:
        """Goes on from the trained autoencoder's."""
        self.samples, self.features = samples, features.to(self.device)
        critic = Critic().to(self.device, memory_format=torch.channels_last)
        self.model = nn.ModuleDict({"decoder": decoder, "critic": critic})

    def sampler(self) -> Any:
        """Latents come with their pictures."""
        return None

    def judge(self, image: Tensor) -> Tensor:
        """The critic's opinion; its weights get no gradient."""
        critic = self.model["critic"]
        frozen = {name: value.detach() for name, value in critic.named_parameters()}
        return torch.func.functional_call(critic, frozen, (image,))

    def decoded(self, step: int) -> tuple[Tensor, Tensor]:
        """A batch's pictures, those of samples in the program's colours, and the teacher's."""
        rng, count = generator(self.seed, self.name, step), -(-self.settings.batch // 4)
        drawn = self.samples.draw(self.settings.batch, self.settings.edge(step), rng)
        taught, cleaned, encoded, sampled = (part.to(self.device) for part in drawn)
        taught, cleaned = (x.float() / 127.5 - 1 for x in (taught, cleaned))
        result = self.model["decoder"](torch.cat([encoded[:count], sampled[count:]])).float()
        with torch.autocast(self.device, enabled=False):  # colours need more than 8 bits
            colours = losses.low_frequencies((cleaned - result)[count:])
        return torch.cat([result[:count], result[count:] + colours]), taught

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, Parts]:
        """Both players' losses; a hinge for the critic."""
        del batch
        result, taught = self.decoded(step)
        found = result.detach().requires_grad_()
        with torch.autocast(self.device, enabled=False):
            same, l1 = losses.likeness(found, taught)
        perceptual = self.features.distance(found, taught)
        pulls = [torch.autograd.grad(x, found)[0]
                 for x in (same, perceptual, -self.judge(found).mean())]  # fmt: skip
        shares = (1.0, self.PERCEPTUAL, self.ADVERSARIAL * min(1.0, step / self.FADE))
        pull = sum(share * pulls[0].norm() / (pull.norm() + 1e-12) * pull
                   for share, pull in zip(shares, pulls, strict=True))  # fmt: skip
        critic = self.model["critic"]
        hinge = F.relu(1 - critic(taught)).mean() + F.relu(1 + critic(result.detach())).mean()
        parts = {"l1": l1, "perceptual": perceptual, "critic": hinge,
                 "psnr": losses.psnr(result, taught)}  # fmt: skip
        return (result * pull).sum() + hinge, parts


STAGES = {
    "vae": VAEStage,
    "cleaner": CleanerStage,
    "unet": UNetStage,
    "control": ControlStage,
    "decoder": DecoderStage,
}
