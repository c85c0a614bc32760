"""One side of a comparison: PyTorch, told what to do line by line (see `turns.py`).

    python -m torchside --bundle DIR --tensors FILE [--threads N] [--steps N] …

`batched` and `separate` run once, with cond and uncond in one batch or one after the other;
`check` runs once and tells how far each intermediate result is from the program's in FILE;
`floor` tells the machine's best rate of an f32 matrix product.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file
from torch import Tensor

from . import modules, pipeline, reference, work


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="torchside", description=__doc__.split("\n")[0])
    p.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    p.add_argument("--tensors", type=Path, metavar="FILE", help="of `diffbir bench --tensors`")
    p.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="instead of --tensors")
    p.add_argument("--task", default="sr")
    p.add_argument("--arch-config", type=Path, metavar="DIR")
    p.add_argument("--weights", nargs="+", default=[], metavar="ROLE=FILE")
    p.add_argument("--reference", type=Path, metavar="DIR")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--cfg-scale", type=float, default=1.0)
    p.add_argument("--seed", type=int, default=231)
    p.add_argument("--samples", type=int, default=1)
    p.add_argument("--tiles", type=int, nargs=2, metavar=("SIZE", "STRIDE"), help="latent cells")
    p.add_argument("--device", default="cpu")
    p.add_argument("--half", action="store_true", help="in fp16")
    p.add_argument("--compile", action="store_true", help="torch.compile the denoiser and the VAE")
    return p


def tell(event: str, record: dict[str, Any]) -> None:
    """One JSON line."""
    print(json.dumps({"event": event, **record}), flush=True)


def relative_rms(found: Tensor, wanted: Tensor) -> float:
    """Of the difference, against the wanted values; inf where shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    found, wanted = found.double().cpu(), wanted.double()
    return float(((found - wanted) ** 2).mean().sqrt() / (wanted**2).mean().sqrt())


def load(args: argparse.Namespace) -> modules.Modules:
    """The modules as the flags want them."""
    files = dict(value.split("=", 1) for value in args.weights)
    given = modules.Given(args.bundle, args.task, args.arch_config,
                          {role: Path(file) for role, file in files.items()})  # fmt: skip
    found = modules.load(given)
    if args.reference:
        reference.put_in_place(found, given, args.reference)
    modules.use_sdpa(found)
    found = modules.to(found, args.device, args.half)
    if args.compile:
        for stage in ("vae_encoder", "step", "vae_decoder"):
            found.networks[stage] = torch.compile(found.networks[stage])
    return found


def picture(args: argparse.Namespace, tensors: dict[str, Tensor]) -> Tensor:
    """The program's picture, [1,3,H,W] in [0,1], or noise of a size."""
    if "lq" in tensors:
        return tensors["lq"].permute(2, 0, 1)[None].float().div(255).to(args.device)
    g = torch.Generator().manual_seed(0)
    return torch.rand((1, 3, *args.size), generator=g).to(args.device)


class Worker:
    """What answers the lines."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.tensors = load_file(args.tensors) if args.tensors else {}
        self.modules, self.lq = load(args), picture(args, self.tensors)
        self.options = pipeline.Options(args.steps, args.cfg_scale, args.seed,
                                        samples=args.samples,
                                        tiles=args.tiles and tuple(args.tiles))  # fmt: skip
        self.device = args.device

    def run(self, batched: bool) -> dict[str, Any]:
        """One restoration."""
        _, record = pipeline.restore(self.modules, self.lq, replace(self.options, batched=batched))
        if self.device == "cuda":
            record["peak_device_bytes"] = torch.cuda.max_memory_allocated()
        return record

    def answer(self, line: str) -> dict[str, Any]:
        """What a line asks for."""
        if line == "floor":
            return {"macs_per_second": work.floor()}
        if line == "check":
            found, record = pipeline.restore(self.modules, self.lq, self.options)
            errors = {name: relative_rms(found[name], self.tensors[name]) for name in found}
            return {**record, "relative_rms": errors}
        return self.run(batched=line != "separate")


def forget_peak() -> None:
    """Lets the system count the most memory from now on: loading does not count."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak includes loading", file=sys.stderr)


def main() -> None:
    """Answers line after line until standard input ends."""
    args = parser().parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    # Convolutions are tried out once, as ONNX Runtime does on a device.
    torch.backends.cudnn.benchmark = True
    worker = Worker(args)
    forget_peak()
    tell("ready", {
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "threads": torch.get_num_threads(),
        "modules": "the reference's" if args.reference else "the exporter's",
    })  # fmt: skip
    for line in sys.stdin:
        tell("run", worker.answer(line.strip()))


if __name__ == "__main__":
    main()
