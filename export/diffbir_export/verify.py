"""Every exported graph is run in ONNX Runtime against PyTorch before a bundle is kept."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from .contracts import Contract
from .errors import VerificationError

# Relative RMS that a graph may be off. fp16 keeps 11 bits, so one rounding is up to 5e-4 and a few
# hundred layers of them add up to about 5e-3; 2e-2 still separates that from a wrong graph.
BOUNDS = {"fp32": 1e-3, "fp16": 2e-2}


@dataclass(frozen=True)
class Measured:
    """Errors of one run; over several outputs the worst one's."""

    batch: int
    height: int
    width: int
    relative_rms: float
    max_abs: float

    def as_dict(self) -> dict[str, Any]:
        """For `bundle.yaml`, in six digits."""
        return {k: v if isinstance(v, int) else float(f"{v:.3g}") for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Reference:
    """What PyTorch computes, in f32, for each verification run."""

    outputs: list[list[np.ndarray]]
    max_activation: float


def reference(module: nn.Module, contract: Contract) -> Reference:
    """Runs the f32 module and records the largest activation of any layer.

    A module with a method `reference` computes the same in another way there, and that is run.
    """
    largest = [0.0]

    def watch(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            largest[0] = max(largest[0], output.abs().max().item())

    handles = [m.register_forward_hook(watch) for m in module.modules()]
    outputs = []
    compute = getattr(module, "reference", module)
    with torch.no_grad():
        for case in contract.cases():
            result = compute(*contract.example(*case, seed=1).values())
            result = result if isinstance(result, tuple) else (result,)
            outputs.append([tensor.numpy() for tensor in result])
    for handle in handles:
        handle.remove()
    return Reference(outputs, largest[0])


def session(path: Path) -> onnxruntime.InferenceSession:
    """A CPU session of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compare(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Relative RMS and largest absolute difference; infinite unless all values are finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return math.inf, math.inf
    difference = found.astype(np.float64) - wanted
    norm = np.sqrt(np.mean(np.square(wanted, dtype=np.float64)))
    rms = np.sqrt(np.mean(difference**2)) / max(norm, 1e-12)
    return float(rms), float(np.abs(difference).max())


def verify(path: Path, contract: Contract, wanted: Reference, precision: str) -> list[Measured]:
    """Runs every case; raises a `VerificationError` above the bound."""
    bound, model, measured = BOUNDS[precision], session(path), []
    names = tuple(value.name for value in model.get_inputs())
    if names != contract.inputs:
        raise VerificationError(f"{path.name}: inputs are {names}, expected {contract.inputs}")
    for case, outputs in zip(contract.cases(), wanted.outputs, strict=True):
        feed = {k: v.numpy() for k, v in contract.example(*case, seed=1).items()}
        found = model.run(list(contract.outputs), feed)
        errors = [compare(*pair) for pair in zip(found, outputs, strict=True)]
        measured.append(Measured(*case, max(e[0] for e in errors), max(e[1] for e in errors)))
    worst = max(m.relative_rms for m in measured)
    if worst > bound:
        raise VerificationError(
            f"{path.name}: relative RMS {worst:.2e} against PyTorch is above {bound:.0e}"
        )
    return measured
