"""Runs variants against the graph that they were made of, in ONNX Runtime on the CPU.

The base is run first, on everything, and its session closed before the next: the official
denoiser's weights are 4.9 GB.

What is made for CUDA is run by its operators' definitions, and twice: as it is, with fp16's bound,
and without the roundings to fp16 in either graph, with f32's. The second shows that it is the same
mathematics, the first that its types fit together. How CUDA's kernels compute is in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from ..bands import Arrays, session
from ..errors import VerificationError
from ..verify import BOUNDS, Measured, compare
from .cuda import CUDA_ONLY
from .lower import lower, widen

# A rewrite changes the order of sums and nothing else.
BOUND = 1e-5
# Contexts for each picture that a denoiser is run with.
BRANCHES = (1, 2)
PER_BRANCH = ("context",)


class Checked(Protocol):
    """What is checked: a variant."""

    model: onnx.ModelProto
    shares_prefix: bool

    def file_name(self, base: Path) -> str:
        """What it is called in messages."""


Change = Callable[[onnx.ModelProto, Path], onnx.ModelProto]


def unchanged(model: onnx.ModelProto, _: Path) -> onnx.ModelProto:
    """A graph that runs as it is."""
    return model


def wide_and_lower(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """In plain operators and f32."""
    return widen(lower(model, path), path)


@dataclass(frozen=True)
class Form:
    """How a base and its variants are run, and how far they may be apart."""

    base: Change
    variant: Change
    bound: float


# By provider. The first form's errors are those in `bundle.yaml`.
FORMS = {
    "cpu": (Form(unchanged, unchanged, BOUND),),
    "cuda": (Form(unchanged, lower, BOUNDS["fp16"]), Form(widen, wide_and_lower, BOUND)),
}


def feed(
    model: onnx.ModelProto, batch: int, height: int, width: int, branches: int, seed: int = 2
) -> Arrays:
    """Seeded inputs of a base graph with `batch` rows, `context` alone with `branches` as many."""
    rng, arrays = np.random.default_rng(seed), {}
    for value in model.graph.input:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        rows = batch * branches if value.name in PER_BRANCH else batch
        if value.name == "timestep":
            array = np.linspace(999, 199.2, batch)
        elif value.name == "strength":
            array = np.linspace(0.5, 1.2, dims[0])
        elif value.name == "image":
            array = rng.uniform(0, 1, (rows, dims[1], height, width))
        elif len(dims) == 4:
            array = rng.standard_normal((rows, dims[1], height, width))
        else:
            array = rng.standard_normal((rows, *dims[1:]))
        arrays[value.name] = array.astype(np.float32)
    return arrays


def repeated(arrays: Arrays, branches: int) -> Arrays:
    """The same inputs for a graph whose inputs all have the same number of rows."""
    return {
        name: array if name in (*PER_BRANCH, "strength") else np.concatenate([array] * branches)
        for name, array in arrays.items()
    }


def check(
    base: Path, entry: dict[str, Any], variants: list[Checked], forms: tuple[Form, ...]
) -> list[list[Measured]]:
    """Errors of each variant at the sizes that the base was verified at, the worst of all branches.

    Raises a `VerificationError` where one is above its form's bound.
    """
    first, *others = forms
    measured = check_form(base, entry, variants, first)
    for form in others:
        check_form(base, entry, variants, form)
    return measured


def check_form(
    base: Path, entry: dict[str, Any], variants: list[Checked], form: Form
) -> list[list[Measured]]:
    """As `check`, in one form.

    A variant that takes what another hands out gets it as the ones before it made it at the same
    inputs. The control module is judged by what the UNet makes of its residuals.
    """
    described = onnx.load(base, load_external_data=False)
    cases = [tuple(row[key] for key in ("batch", "height", "width")) for row in entry["verified"]]
    branches = BRANCHES if any(v.shares_prefix for v in variants) else (1,)
    runs = [(case, count) for case in cases for count in branches]
    feeds = [feed(described, *case, count) for case, count in runs]
    model = session(form.base(described, base).SerializeToString(), base.parent)
    [output] = [value.name for value in model.get_outputs()]
    wanted = [
        model.run(None, repeated(f, count))[0] for f, (_, count) in zip(feeds, runs, strict=True)
    ]
    del model
    measured = []
    for variant in variants:
        model = session(form.variant(variant.model, base).SerializeToString(), base.parent)
        errors: dict[tuple[int, ...], tuple[float, float]] = {}
        for i, (case, _) in enumerate(runs):
            found = run(model, feeds[i])
            if output in found:
                error = compare(found.pop(output), wanted[i])
                errors[case] = max(errors.get(case, error), error)
            feeds[i] |= found
        del model
        measured.append([Measured(*case, *error) for case, error in errors.items()])
        if errors:
            hold(variant.file_name(base), base.name, measured[-1], form.bound)
    return [rows or after for rows, after in zip(measured, [*measured[1:], []], strict=True)]


def run(model: Any, values: Arrays) -> Arrays:
    """The outputs of a session by name, on those of `values` that it takes."""
    inputs = {value.name: values[value.name] for value in model.get_inputs()}
    names = [value.name for value in model.get_outputs()]
    return dict(zip(names, model.run(None, inputs), strict=True))


def hold(name: str, base: str, rows: list[Measured], bound: float) -> None:
    """Raises a `VerificationError` if an error is above the bound."""
    worst = max(row.relative_rms for row in rows)
    if worst > bound:
        raise VerificationError(
            f"{name}: relative RMS {worst:.2e} against {base} is above {bound:.0e}"
        )


def only_kernels_are_missing(variants: list[Checked], base: Path) -> None:
    """Raises a `VerificationError` unless graphs for CUDA are sound as far as a CPU can tell.

    ONNX Runtime infers and compares all types and shapes before it looks for kernels, so that a
    session of a sound graph fails for want of one of CUDA's, and for nothing else.
    """
    for variant in variants:
        said = "it runs on a CPU"
        try:
            session(variant.model.SerializeToString(), base.parent)
        except Exception as error:  # ONNX Runtime's own have no class in common
            said = str(error)
            if isinstance(error, NoKernel) and any(f"{op}(" in said for op in CUDA_ONLY):
                continue
        raise VerificationError(f"{variant.file_name(base)}: is no graph for CUDA: {said}")
