"""Turns a bundle of this architecture back into a run, to train it on.

    python -m train.recover ../onnx/demo --out RUN

A graph's names do not lead back: folding turns matrices, reshapes gains and renames both, and equal
vectors become one. So the module is traced once more with weights that are their own numbers: what
the new graph holds at a place says which parameters the bundle's graph holds there. Each module is
then run against its graph.

What a bundle does not have cannot come back: weights before averaging and optimisers (both start
from the averages), the autoencoder's decoder before it was sharpened, the critic.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
import yaml
from torch import Tensor, nn

from diffbir_export import graph, plan, verify
from diffbir_export.config import ArchConfig
from diffbir_export.models.control import Denoiser

from . import loop
from .bundle import RECOVERED_SCALE
from .networks import VAE, Critic, build_cleaner, load_arch
from .optim import Muon
from .stages import NEEDS

BOUND = 1e-4
"""Relative RMS that a module may be off its graph."""
FIRST = 2**20
"""The first number; no constant of a graph is that large."""

State = dict[str, Tensor]


def numbered(module: nn.Module) -> int:
    """Gives every weight its own number, `FIRST` and up, exact in f32; returns how many."""
    place = FIRST
    for value in module.parameters():
        numbers = torch.arange(place, place + value.numel(), dtype=torch.float32)
        value.data = numbers.reshape(value.shape)
        place += value.numel()
    if place > 2**24:
        raise ValueError(f"{place - FIRST} weights are too many to be numbered in f32")
    return place - FIRST


def is_stored_half(node: ir.Node) -> bool:
    """Whether a node is what `graph.store_half` puts behind an initializer."""
    return node.op_type == "Cast" and node.inputs[0].name.endswith(".half")


def operands(model: ir.Model) -> Iterator[tuple[str, list[np.ndarray | None]]]:
    """Each node's operation, and which of its operands are stored f32 or fp16 values."""
    for node in model.graph:
        if is_stored_half(node):
            continue
        found: list[np.ndarray | None] = []
        for value in node.inputs:
            producer = value and value.producer()
            if producer and is_stored_half(producer):
                value = producer.inputs[0]
            stored = value is not None and value.is_initializer() and value.const_value
            array = stored.numpy() if stored else None
            found.append(array if array is not None and array.dtype.kind == "f" else None)
        yield node.op_type, found


def weights(module: nn.Module, contract: plan.Contract, path: Path) -> State:
    """The weights that the graph at `path` has in the place of each of the module's."""
    count = numbered(module)
    values = np.full(count, np.nan, np.float32)
    traced, given = (list(operands(m)) for m in (graph.trace(module, contract), ir.load(path)))
    if [operation for operation, _ in traced] != [operation for operation, _ in given]:
        raise ValueError(f"{path}: not the graph that this exporter makes of this architecture")
    for (_, numbers), (_, found) in zip(traced, given, strict=True):
        for number, value in zip(numbers, found, strict=True):
            if number is not None and number.size and number.min() >= FIRST:
                values[number.astype(np.int64) - FIRST] = value.astype(np.float32)
    state, place = {}, 0
    for name, parameter in module.named_parameters():
        part = values[place : place + parameter.numel()]
        if np.isnan(part).any():
            raise ValueError(f"{path}: {name} is not in the graph")
        state[name] = torch.from_numpy(part.reshape(parameter.shape).copy())
        place += parameter.numel()
    return state


def check(module: nn.Module, contract: plan.Contract, path: Path) -> float:
    """The module's largest relative RMS against the graph; above `BOUND` is an error."""
    wanted = verify.reference(module, contract)
    worst = max(row.relative_rms for row in verify.verify(path, contract, wanted, "fp32"))
    if worst > BOUND:
        raise ValueError(f"{path}: relative RMS {worst:.1e} between module and graph")
    return worst


def latent_scale(bundle: Path) -> float:
    """What its latents are multiplied by."""
    return yaml.safe_load((bundle / "bundle.yaml").read_text())["latent"]["scale_factor"]


def recover(bundle: Path, arch: ArchConfig) -> dict[str, State]:
    """Graph name -> the weights of its module, each checked against the graph."""
    arch = replace(arch, scale_factor=latent_scale(bundle))
    request = plan.Request("custom", arch, bundle, {}, 0, tasks=("sr",), text_encoder=False)
    result = {}
    for entry in plan.graph_plans(request):
        module, path = entry.build().eval().requires_grad_(False), bundle / f"{entry.name}.onnx"
        result[entry.name] = weights(module, entry.contract, path)
        module.load_state_dict(result[entry.name])
        worst = check(module, entry.contract, path)
        print(f"{entry.name}: {len(result[entry.name])} weights, relative RMS {worst:.1e}")
    return result


def modules(arch: ArchConfig, found: dict[str, State]) -> dict[str, nn.Module]:
    """Stage -> what it trains, with the found weights."""
    vae, cleaner = VAE(arch), build_cleaner(arch, "cpu")
    vae.encoder.load_state_dict(found["vae_encoder"])
    vae.decoder.load_state_dict(found["vae_decoder"])
    cleaner.load_state_dict(found["cleaner_sr"])
    denoiser = Denoiser(arch.unet, arch.control)
    denoiser.load_state_dict(found["denoiser"])
    torch.manual_seed(0)
    decoder = nn.ModuleDict({"decoder": vae.decoder, "critic": Critic()})
    return {"vae": vae, "cleaner": cleaner, "unet": denoiser.unet, "control": denoiser.control,
            "decoder": decoder}  # fmt: skip


def parents(stage: str) -> list[list[str | int]]:
    """The stages before one, none of which has taken a step."""
    return [pair for need in NEEDS[stage] for pair in ([need, 0], *parents(need))]


def write(stages: dict[str, nn.Module], run: Path) -> None:
    """A checkpoint of each stage at step 0."""
    run.mkdir(parents=True, exist_ok=True)
    for name, module in stages.items():
        path = loop.checkpoint(run, name)
        if path.exists():
            raise SystemExit(f"error: {path} exists")
        state = module.state_dict()
        loop.save({"model": state, "ema": state, "optimiser": Muon(module).state_dict(),
                   "step": 0, "seconds": 0.0, "parents": parents(name)}, path)  # fmt: skip


def main() -> None:
    """Recovers a run."""
    parser = argparse.ArgumentParser(prog="train.recover", description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    args = parser.parse_args()
    arch = load_arch()
    write(modules(arch, recover(args.bundle, arch)), args.out)
    (args.out / RECOVERED_SCALE).write_text(f"{latent_scale(args.bundle)}\n")


if __name__ == "__main__":
    main()
