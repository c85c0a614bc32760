"""Trains the demo model: pictures, five stages, bundle. Stop it at any time and start it again.

python -m train --out RUN --minutes 100 [--device cuda] [--bundle ../onnx/demo]
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from . import latents, loop, samples
from .bundle import averaged, export, factor_of
from .data import Loader, Taught, shards
from .features import Features
from .latents import Encoder, Limit, Pool
from .networks import VAE, Sampler, build_cleaner, empty_context, load_arch
from .samples import Samples
from .stages import CPU, CUDA, NEEDS, STAGES, Stage

ORDER = ("vae", "cleaner", "unet", "control", "decoder")
SHARES = {"vae": 0.17, "cleaner": 0.24, "pool": 0.07, "unet": 0.08, "control": 0.18,
          "samples": 0.06, "decoder": 0.2}  # fmt: skip
"""Parts of the time budget."""
SAMPLED = ("vae", "cleaner", "unet", "control")
"""What samples are made with."""
CHUNKS = {"cpu": 250, "cuda": 2500}
SEED = 0


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="train", description=__doc__.split("\n")[0])
    p.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    p.add_argument("--stage", choices=(*ORDER, "all"), default="all")
    p.add_argument(
        "--minutes",
        type=float,
        default=100.0,
        help="budget of all stages together, or of the one stage (default: 100); on a CPU of "
        "computing, so that it takes longer beside other work",
    )
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--data", type=Path, metavar="DIR", help="the shards (default: RUN/data)")
    p.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's)")
    p.add_argument(
        "--workers",
        type=int,
        default=None,
        help="processes that make batches (default: 0 on cpu, 8 on cuda)",
    )
    p.add_argument("--bundle", type=Path, metavar="DIR", help="export the result there at the end")
    return p  # fmt: skip


class Stopped(Exception):
    """The user wants to go on another time."""


class Trainer:
    """One invocation."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out, self.device = args, args.out, args.device
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(SEED)
        self.arch = load_arch()
        self.data = args.data or self.out / "data"
        self.out.mkdir(parents=True, exist_ok=True)
        workers = args.workers
        if workers is None:
            workers = 8 if self.device == "cuda" else 0
        if self.device == "cuda":
            torch.set_default_device("cuda")  # the networks make masks in their forward pass
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        files = shards(self.data)
        if not files:
            raise SystemExit(f"error: no triples in {self.data}: run python -m train.targets first")
        taught = Taught.load(files)
        print(f"{len(taught)} triples", flush=True)
        self.loader = Loader(taught, self.data, workers)

    def on_signal(self, number: int, frame: object) -> None:
        """Stops after the current step."""
        del number, frame
        self.stopped = True

    def budget(self, part: str) -> float:
        """Seconds of a stage or of the pool."""
        share = 1.0 if part == self.args.stage else SHARES[part]
        return 60 * self.args.minutes * share

    def parents(self, name: str) -> tuple[tuple[str, int], ...]:
        """The stages that `name` is trained on, with the steps they have had."""
        result = []
        for need in NEEDS[name]:
            found = loop.read(self.out, need)
            if found is None:
                raise SystemExit(f"error: stage {name} needs stage {need}, which has not run")
            result.append((need, found["step"]))
            result += [tuple(parent) for parent in found["parents"]]
        return tuple(result)

    def averaged(self, name: str) -> dict[str, torch.Tensor]:
        """The EMA weights of a stage."""
        return loop.read(self.out, name)["ema"]

    def filled(self, name: str, needs: tuple[str, ...], encode: Callable, share: float) -> Path:
        """The folder of what `encode` makes of crops, new where the needed stages moved on."""
        steps = "_".join(f"{need}{loop.read(self.out, need)['step']}" for need in needs)
        folder = self.out / f"{name}_{steps}"
        settings = (CUDA if self.device == "cuda" else CPU)["unet"]
        sampler = latents.ChunkSampler(settings.crop, SEED)
        seconds = 60 * self.args.minutes * share
        limit = Limit(CHUNKS[self.device], seconds, lambda: self.stopped, loop.computed)
        if not latents.finished(folder):
            latents.fill(folder, encode, lambda first: self.loader.batches(sampler, first), limit)
        if self.stopped:
            raise Stopped
        return folder

    def pool(self, name: str) -> Pool:
        """The latents of the present autoencoder and cleaner, in the scale of the UNet."""
        vae, cleaner = VAE(self.arch).to(self.device), build_cleaner(self.arch, self.device)
        vae.load_state_dict(self.averaged("vae"))
        cleaner.load_state_dict(self.averaged("cleaner"))
        encode = Encoder(vae.eval(), cleaner.eval(), self.device)
        pool = Pool(*latents.load(self.filled("pool", NEEDS["unet"], encode, SHARES["pool"])))
        factor = pool.factor() if name == "unet" else factor_of(self.out)
        print(f"latents: {len(pool.latents)} pairs, scale factor {factor}", flush=True)
        return pool.scaled(factor)

    def samples(self) -> tuple[VAE, Samples]:
        """The autoencoder, and what all networks together sample."""
        vae, *others = averaged(self.out, self.arch)
        cleaner, denoiser = (network.to(self.device).eval() for network in others)
        vae = vae.to(self.device, memory_format=torch.channels_last).eval()
        context = empty_context(self.arch).to(self.device)
        factor = factor_of(self.out)
        samplers = [Sampler(self.arch, denoiser, context, factor, steps) for steps in samples.STEPS]
        maker = samples.Maker(Encoder(vae, cleaner, self.device), samplers)
        found = Samples(*latents.load(self.filled("samples", SAMPLED, maker, SHARES["samples"])))
        print(f"samples: {len(found.taught)}", flush=True)
        return vae, found

    def prepare(self, name: str) -> Stage:
        """The stage with all it needs."""
        settings = (CUDA if self.device == "cuda" else CPU)[name]
        torch.manual_seed(SEED)
        stage = STAGES[name](self.arch, settings, self.device, SEED)
        if name in ("unet", "control"):
            stage.bind(self.pool(name), empty_context(self.arch))
        if name == "control":
            stage.start(self.averaged("unet"))
        if name == "decoder":
            vae, found = self.samples()
            stage.start(vae.decoder.train(), found, Features.load(self.data))
        return stage

    def run(self) -> None:
        """The asked stages in order."""
        names = ORDER if self.args.stage == "all" else (self.args.stage,)
        for name in names:
            plan = loop.Plan(self.budget(name), stop=lambda: self.stopped,
                             parents=self.parents(name))  # fmt: skip
            found = loop.read(self.out, name)
            spent = found and found["seconds"] >= plan.seconds
            if not (spent and tuple(map(tuple, found["parents"])) == plan.parents):
                loop.train(self.prepare(name), self.out, plan, self.loader)
            if self.stopped:
                raise Stopped


def main() -> int:
    """Trains, and exports if asked to; 130 when stopped before the end."""
    args = parser().parse_args()
    trainer = Trainer(args)
    try:
        trainer.run()
    except Stopped:
        print("stopped: the same command goes on from here", flush=True)
        return 130
    finally:
        trainer.loader.close()
    if args.bundle is None:
        return 0
    torch.set_default_device("cpu")
    return export(args.out, args.bundle)


if __name__ == "__main__":
    sys.exit(main())
