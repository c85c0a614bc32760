"""Runs variants against the graph that they were made of, in ONNX Runtime.

The base is run first, on everything, and its session closed before the next: the official
denoiser's weights are 4.9 GB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from ..bands import Arrays, session
from ..verify import Measured, compare

# A rewrite changes the order of sums and nothing else.
BOUND = 1e-5
# Contexts for each picture that a denoiser is run with.
BRANCHES = (1, 2)
PER_BRANCH = ("context",)


class Checked(Protocol):
    """What is checked: a variant."""

    model: onnx.ModelProto
    role: str
    shares_prefix: bool
    deep: str | None


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


def check(base: Path, entry: dict[str, Any], variants: list[Checked]) -> list[list[Measured]]:
    """Errors of each variant at the sizes that the base was verified at, the worst of all branches.

    A variant that takes what another hands out gets it as the ones before it made it at the same
    inputs. The control module is judged by what the UNet makes of its residuals.
    """
    described = onnx.load(base, load_external_data=False)
    cases = [tuple(row[key] for key in ("batch", "height", "width")) for row in entry["verified"]]
    branches = BRANCHES if any(v.shares_prefix for v in variants) else (1,)
    runs = [(case, count) for case in cases for count in branches]
    feeds = [feed(described, *case, count) for case, count in runs]
    model = session(base.read_bytes(), base.parent)
    [output] = [value.name for value in model.get_outputs()]
    wanted = [
        model.run(None, repeated(f, count))[0] for f, (_, count) in zip(feeds, runs, strict=True)
    ]
    del model
    measured = []
    for variant in variants:
        model = session(variant.model.SerializeToString(), base.parent)
        errors: dict[tuple[int, ...], tuple[float, float]] = {}
        for i, (case, _) in enumerate(runs):
            found = run(model, feeds[i])
            if output in found:
                error = compare(found.pop(output), wanted[i])
                errors[case] = max(errors.get(case, error), error)
            feeds[i] |= found
        del model
        measured.append([Measured(*case, *error) for case, error in errors.items()])
    return [rows or after for rows, after in zip(measured, [*measured[1:], []], strict=True)]


def run(model: Any, values: Arrays) -> Arrays:
    """The outputs of a session by name, on those of `values` that it takes."""
    inputs = {value.name: values[value.name] for value in model.get_inputs()}
    names = [value.name for value in model.get_outputs()]
    return dict(zip(names, model.run(None, inputs), strict=True))
