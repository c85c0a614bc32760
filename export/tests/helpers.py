"""What several test modules use: running graphs of a bundle, and pictures."""

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


def synthetic(count: int = 4, size: int = 160) -> list[np.ndarray]:
    """Smooth coloured waves with a few edges."""
    result = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:size, :size] / size
        waves = [np.sin(2 * np.pi * (rng.uniform(1, 6) * x + rng.uniform(1, 6) * y)) for _ in "rgb"]
        values = 128 + 80 * np.stack(waves, -1) + 40 * (x > rng.random())[..., None]
        result.append(np.clip(values, 0, 255).astype(np.uint8))
    return result
