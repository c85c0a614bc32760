"""Runs a segmented graph over bands of rows, as the engine does: what segments are verified with.

A canvas is a whole picture [1,C,H,W] in f32. Before a step its normalisation's statistics are taken
over the whole canvas; then the step runs over one band after another.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors import safe_open

Arrays = dict[str, np.ndarray]

FOLDER = "session.model_external_initializers_file_folder_path"


def session(
    graph: bytes, folder: Path, threads: int = 0, spins: bool = True
) -> onnxruntime.InferenceSession:
    """A CPU session of a graph whose large weights lie in `folder`; on all processors with 0.

    Threads that do not spin leave processors to another session while theirs waits.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry(FOLDER, str(folder))
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def statistics(canvas: np.ndarray, groups: int, eps: float) -> Arrays:
    """`mean` and `rstd` [1,C,1,1] of [1,C,H,W], taken over groups of channels in f64."""
    values = canvas.astype(np.float64).reshape(groups, -1)
    per_group = {"mean": values.mean(1), "rstd": 1 / np.sqrt(values.var(1) + eps)}
    count = canvas.shape[1]
    return {
        name: np.repeat(row, count // groups).astype(np.float32).reshape(1, count, 1, 1)
        for name, row in per_group.items()
    }


class Segments:
    """`NAME.segments.safetensors`; its weights lie in `weights`."""

    def __init__(self, path: Path, weights: Path) -> None:
        self.weights = weights
        with safe_open(path, "numpy") as file:
            self.plan: dict[str, Any] = json.loads(file.metadata()["plan"])
            names = [step["graph"] for step in self.plan["steps"]]
            self.graphs = {name: file.get_tensor(name).tobytes() for name in names}

    def scale(self, canvas: str) -> Fraction:
        """Cells of a canvas to a cell of the graph's input."""
        return Fraction(*self.plan["canvases"][canvas]["scale"])

    def run(self, picture: np.ndarray, rows: int) -> np.ndarray:
        """The graph's output for its input [1,C,H,W], in bands of `rows` rows."""
        canvases = {self.plan["input"]: picture}
        for step in self.plan["steps"]:
            self.step(step, canvases, rows)
        return canvases[self.plan["output"]]

    def step(self, step: dict[str, Any], canvases: Arrays, rows: int) -> None:
        """Adds a step's outputs to the canvases."""
        # Segments of a small picture are too short to share.
        model = session(self.graphs[step["graph"]], self.weights, threads=1)
        feed = {f"whole_{i}": canvases[name] for i, name in enumerate(step["whole"])}
        if norm := step["norm"]:
            feed |= statistics(canvases[norm["canvas"]], norm["groups"], norm["eps"])
        ratio = self.scale(step["outputs"][0]) / self.scale(step["bands"][0])
        rows += rows % ratio.denominator
        height = canvases[step["bands"][0]].shape[2]
        parts = []
        for start in range(0, height, rows):
            end = min(start + rows, height)
            above, below = max(start - step["halo"], 0), min(end + step["halo"], height)
            for i, name in enumerate(step["bands"]):
                feed[f"band_{i}"] = canvases[name][:, :, above:below]
            core = slice(int((start - above) * ratio), int((end - above) * ratio))
            parts.append([out[:, :, core] for out in model.run(None, feed)])
        for name, bands in zip(step["outputs"], zip(*parts, strict=True), strict=True):
            canvases[name] = np.concatenate(bands, axis=2)
