"""Running graphs of a bundle."""

from pathlib import Path

import numpy as np

from diffbir_export.verify import session


class Graphs:
    """Sessions of a bundle, each made once."""

    def __init__(self, folder: Path):
        self.folder, self.sessions = folder, {}

    def run(self, name: str, **inputs) -> list[np.ndarray]:
        if name not in self.sessions:
            self.sessions[name] = session(self.folder / f"{name}.onnx")
        return self.sessions[name].run(None, inputs)


def relative_rms(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / np.sqrt(np.mean(wanted**2)))
