"""Reading checkpoints: weights only, memory-mapped, never running pickled code."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .errors import InputError, UsageError

WRAPPERS = ("state_dict", "params_ema", "params")
"""Keys that a state dict lies under; BasicSR's moving average is taken before the last weights."""
SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")


def inert_class(full_name: str) -> type:
    """A class that stands for a pickled global: takes anything, does nothing."""

    class Inert:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            del args, kwargs

        def __setstate__(self, state: Any) -> None:
            del state

    Inert.__name__ = full_name.rpartition(".")[2]
    return Inert


def load_pickled(path: Path) -> Any:
    """torch's weights-only unpickler, with every other global replaced by an inert class.

    Official checkpoints hold training leftovers (callbacks, numpy scalars) beside their weights.
    Replacing them by name lets the file load while nothing it names is ever looked up or called.
    """
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    inert = [(inert_class(name), name) for name in unknown]
    with torch.serialization.safe_globals(inert):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def read_raw(path: Path) -> Any:
    """The file's content, or an error naming the file and what is wrong with it."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of checkpoint, expected {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            return load_pickled(path)
        # torch's format before 1.6: no list of its globals, so only plain weights load.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpicklers meet garbage with whatever it trips them with
        first = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
        raise InputError(f"{path}: cannot be read as weights only: {first}") from None


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, the wrappers `state_dict`, `params_ema`, `params` and `module.` stripped."""
    content = read_raw(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds no state dict")
    strays = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strays:
        raise InputError(f"{path}: not a plain state dict: {listing(strays)} are not tensors")
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(names: Iterable[str], most: int = 20) -> str:
    """`a, b, c` or `a, b … and 7 more`."""
    names = sorted(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} … and {len(names) - most} more"


def check_keys(
    where: str,
    found: dict[str, tuple[int, ...]],
    expected: dict[str, tuple[int, ...]],
    ignored: tuple[str, ...],
) -> None:
    """Raises an `InputError` that lists missing, unexpected and misshapen keys."""
    passed = re.compile("|".join(f"(?:{pattern})" for pattern in ignored) or r"(?!)")
    problems = []
    if missing := expected.keys() - found.keys():
        problems.append(f"{len(missing)} missing keys: {listing(missing)}")
    if unexpected := {k for k in found.keys() - expected.keys() if not passed.fullmatch(k)}:
        problems.append(f"{len(unexpected)} unexpected keys: {listing(unexpected)}")
    wrong = [
        f"{key} {list(found[key])} (expected {list(shape)})"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} keys of another shape: {listing(wrong)}")
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}")
