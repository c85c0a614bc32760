"""Filling modules: from checkpoints or at random, checked before anything is exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import check_keys, load_checkpoint
from .errors import InputError
from .keys import KeyMap, Source
from .random_weights import random_tensor

Shape = tuple[int, ...]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Builds a module whose parameters take no memory."""
    with torch.device("meta"):
        return build().eval().requires_grad_(False)


def source_shape(name: str, parameter: Tensor, source: Source) -> Shape:
    """The shape that a parameter's checkpoint tensor has."""
    shape = tuple(parameter.shape)
    if source.part is not None:
        return (3 * shape[0], *shape[1:])
    if ".mid.attn_1." in source.key and len(shape) == 2:
        return (*shape, 1, 1)  # the VAE's attention is made of 1x1 convolutions there
    return shape


def expected(module: nn.Module, keys: KeyMap) -> dict[Source, Shape]:
    """Every checkpoint tensor that `module` needs, with `part` left out."""
    result = {}
    for name, parameter in module.named_parameters():
        source = keys(name)
        result[source._replace(part=None)] = source_shape(name, parameter, source)
    return result


class Weights:
    """Gives tensors by role and key."""

    def shapes(self, role: str) -> dict[str, Shape] | None:
        """Shapes of a role's tensors, or None where any shape can be had."""
        raise NotImplementedError

    def tensor(self, source: Source, shape: Shape) -> Tensor:
        """The f32 tensor of one key."""
        raise NotImplementedError


class RandomWeights(Weights):
    """Seeded random tensors of any shape."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def shapes(self, role: str) -> dict[str, Shape] | None:
        """See `Weights`."""
        return None

    def tensor(self, source: Source, shape: Shape) -> Tensor:
        """See `Weights`."""
        return random_tensor(self.seed, source.role, source.key, shape)


class CheckpointWeights(Weights):
    """Tensors of checkpoint files, one file for each role."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files
        self.loaded: dict[str, dict[str, Tensor]] = {}

    def state(self, role: str) -> dict[str, Tensor]:
        """A role's tensors, read when first asked for."""
        if role not in self.loaded:
            self.loaded[role] = load_checkpoint(self.files[role])
        return self.loaded[role]

    def shapes(self, role: str) -> dict[str, Shape] | None:
        """See `Weights`."""
        return {key: tuple(value.shape) for key, value in self.state(role).items()}

    def tensor(self, source: Source, shape: Shape) -> Tensor:
        """See `Weights`."""
        return self.state(source.role)[source.key].float()


def check(weights: Weights, role: str, needed: dict[Source, Shape], ignored: tuple[str, ...],
          where: str) -> None:  # fmt: skip
    """Compares a role's file with the keys that the bundle's modules need of it."""
    found = weights.shapes(role)
    if found is not None:
        wanted = {source.key: shape for source, shape in needed.items() if source.role == role}
        check_keys(where, found, wanted, ignored)


def fill(module: nn.Module, keys: KeyMap, weights: Weights, round_to_half: bool) -> nn.Module:
    """Replaces a meta module's parameters by tensors of `weights`.

    `round_to_half` rounds every matrix to fp16, for graphs that store them so: the module then
    computes exactly what the graph does.
    """
    state = {}
    for name, parameter in module.named_parameters():
        source = keys(name)
        value = weights.tensor(source._replace(part=None), source_shape(name, parameter, source))
        if source.part is not None:
            value = value.chunk(3)[source.part].clone()
        value = value.reshape(parameter.shape)
        if round_to_half and value.dim() >= 2:
            value = value.half().float()
        if not torch.isfinite(value.sum()):
            raise InputError(f"{source.role}: {source.key} holds values that are not finite")
        state[name] = value
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
