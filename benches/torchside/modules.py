"""The modules of a bundle, with the weights that its graphs have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from diffbir_export import config, plan
from diffbir_export.families import TASKS
from diffbir_export.fp16 import to_half
from diffbir_export.models import windows
from diffbir_export.weights import CheckpointWeights, RandomWeights, Weights, fill, on_meta
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Given:
    """What the user names: a bundle and, where it does not tell them, architecture and weights."""

    bundle: Path
    task: str = "sr"
    arch: Path | None = None
    files: dict[str, Path] | None = None


@dataclass
class Modules:
    """The four networks that a run needs, and what they are told besides."""

    networks: dict[str, nn.Module]
    """By the names of their stages; the denoiser's is `step`."""
    contexts: tuple[Tensor, Tensor]
    """Of the positive and of the negative prompt, [1,77,C] each."""
    diffusion: dict[str, Any]


def manifest(bundle: Path) -> dict[str, Any]:
    """The contents of `bundle.yaml`."""
    return yaml.safe_load((bundle / "bundle.yaml").read_text())


def arch_of(given: Given, described: dict[str, Any]) -> config.ArchConfig:
    """The sizes of the networks."""
    if not trained_here(given, described):
        return config.load(given.arch, described["family"])
    from train.networks import load_arch

    return replace(load_arch(), scale_factor=described["latent"]["scale_factor"])


def plans(given: Given, described: dict[str, Any]) -> dict[str, plan.GraphPlan]:
    """Stage -> how its module is made."""
    request = plan.Request(
        described["family"],
        arch_of(given, described),
        given.bundle,
        given.files or {},
        seed=described["weights"].get("seed"),
        tasks=tuple(task for task in TASKS if task in described["tasks"]),
        text_encoder=False,
    )
    found = {entry.name: entry for entry in plan.graph_plans(request)}
    names = {
        "cleaner": described["tasks"][given.task]["cleaner"],
        "vae_encoder": "vae_encoder",
        "step": "denoiser",
        "vae_decoder": "vae_decoder",
    }
    return {stage: found[name] for stage, name in names.items()}


def weights_of(given: Given, described: dict[str, Any]) -> Weights:
    """Where the tensors come from."""
    if given.files:
        return CheckpointWeights(given.files)
    if described["weights"]["source"] == "random":
        return RandomWeights(described["weights"]["seed"])
    raise SystemExit(
        f"error: {given.bundle}: made from checkpoints: name them with --weights, as the exporter "
        "takes them"
    )


def trained_here(given: Given, described: dict[str, Any]) -> bool:
    """Whether the weights can only be had from the graphs themselves."""
    return described["weights"]["source"] == "trained" and not given.files


def recovered(given: Given, found: dict[str, plan.GraphPlan]) -> dict[str, nn.Module]:
    """The modules of a bundle that `export/train` made, with the weights that lie in its graphs."""
    from train import recover
    from train.networks import load_arch

    states, modules = recover.recover(given.bundle, load_arch()), {}
    for stage, entry in found.items():
        module = entry.build().eval().requires_grad_(False)
        module.load_state_dict(states[entry.name])
        modules[stage] = module
    return modules


def filled(given: Given, found: dict[str, plan.GraphPlan]) -> dict[str, nn.Module]:
    """The modules with random or checkpoint weights."""
    described, modules = manifest(given.bundle), {}
    weights = weights_of(given, described)
    for stage, entry in found.items():
        listed = described["graphs"][entry.name]
        half = "fp16" in (listed["precision"], listed.get("storage"))
        modules[stage] = fill(on_meta(entry.build), entry.keys, weights, half)
    return modules


def contexts(bundle: Path, described: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The default prompts' contexts."""
    tensors = load_file(bundle / described["contexts"]["file"])
    names = {entry["prompt"]: entry["tensor"] for entry in described["contexts"]["prompts"]}
    defaults = described["defaults"]
    wanted = (defaults["prompt"], defaults["negative_prompt"])
    return tuple(tensors[names[prompt]].float()[None] for prompt in wanted)


def load(given: Given) -> Modules:
    """All of it, in f32 on the CPU."""
    described = manifest(given.bundle)
    make = recovered if trained_here(given, described) else filled
    return Modules(
        make(given, plans(given, described)),
        contexts(given.bundle, described),
        described["diffusion"],
    )


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """`windows.attend` by PyTorch's fused attention."""
    added = bias if mask is None else bias + mask
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=added.to(q.dtype), scale=1.0)
    return out.transpose(1, 2).flatten(2)


def use_sdpa(modules: Modules) -> None:
    """PyTorch's fused attention instead of the plain one, which is written for the export."""
    windows.attend = attend
    for module in modules.networks.values():
        for child in module.modules():
            if isinstance(child, Attention):
                child.set_processor(AttnProcessor2_0())


def to(modules: Modules, device: str, half: bool) -> Modules:
    """The modules on a device and in a precision."""
    for stage, module in modules.networks.items():
        modules.networks[stage] = (to_half(module) if half else module).to(device)
    modules.contexts = tuple(context.to(device) for context in modules.contexts)
    return modules
