"""Autoencoder graphs in segments, for pictures that do not fit into memory as a whole.

`NAME.segments.safetensors` stands beside `NAME.onnx`. Its tensors "000", "001", ... (u8) are ONNX
graphs, whose weights are those of `NAME.onnx.data`; its metadata's `plan` is JSON that says how to
run them (`cut.py`, `bands.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from . import verify
from .bands import Segments
from .cut import Cut, cut
from .errors import VerificationError
from .onnx_parts import Source, write_graphs

Log = Callable[[str], None]

VERSION = 1
KINDS = ("vae_encoder", "vae_decoder")
"""Graphs that always have segments; RRDBNet in f32 that folds no pixels has them too."""
# Against the whole graph. In fp16 both round every layer, after differently ordered sums.
BOUNDS = {"fp32": 1e-5, "fp16": 5e-3}
# The picture that segments are verified on, in cells of the latent, and its bands.
CELLS, ROWS = (7, 5), 3


def describe(whole: Source, parts: Cut) -> dict[str, Any]:
    """The plan: canvases with their channels and scale, and the steps on them."""
    first, last = whole.model.graph.input[0].name, whole.model.graph.output[0].name
    names, scales = {first: first, last: last}, {first: Fraction(1)}
    steps = []
    for i, step in enumerate(parts.steps):
        for value in step.outputs:
            names.setdefault(value, f"c{len(names) - 2}")
            scales[value] = scales[step.bands[0]] * step.ratio
        norm = step.norm and {"canvas": names[step.norm.canvas], "groups": step.norm.groups,
                              "eps": step.norm.eps}  # fmt: skip
        canvases = {key: [names[value] for value in getattr(step, key)]
                    for key in ("bands", "whole", "outputs")}  # fmt: skip
        inner = {"inner": step.inner} if step.inner else {}
        steps.append({"graph": f"{i:03}", "norm": norm, **canvases, "halo": step.halo, **inner})
    sizes = {
        names[value]: {"channels": parts.channels[value], "scale": [*scale.as_integer_ratio()]}
        for value, scale in scales.items()
    }
    return {"version": VERSION, "input": first, "output": last, "canvases": sizes, "steps": steps}


def write(whole: Path, folder: Path) -> Path:
    """Writes the segments of the graph `whole`, whose weights are external, into `folder`."""
    source = Source(whole)
    parts = cut(source)
    path = folder / f"{whole.stem}.segments.safetensors"
    write_graphs(path, [step.model for step in parts.steps], describe(source, parts))
    return path


def check(whole: Path, segments: Path, precision: str) -> float:
    """Runs both on a small picture; returns the relative RMS or raises a `VerificationError`."""
    parts = Segments(segments, whole.parent)
    unit = parts.scale(parts.plan["output"]).denominator
    channels = parts.plan["canvases"][parts.plan["input"]]["channels"]
    shape = (1, channels, *(unit * cells for cells in CELLS))
    picture = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    [wanted] = verify.session(whole).run(None, {parts.plan["input"]: picture})
    error, _ = verify.compare(parts.run(picture, ROWS), wanted)
    if error > BOUNDS[precision]:
        raise VerificationError(
            f"{segments.name}: relative RMS {error:.2e} against {whole.name} is above "
            f"{BOUNDS[precision]:.0e}"
        )
    return error


def make(whole: Path, folder: Path, precision: str, log: Log) -> Path:
    """Writes and verifies; returns the file."""
    path = write(whole, folder)
    error = check(whole, path, precision)
    log(f"{whole.stem:16} in bands     {error:9.2e}")
    return path
