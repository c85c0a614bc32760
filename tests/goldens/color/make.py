"""Colour correction from its definitions, in f64 with numpy alone."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

SHAPES = [(1, 3, 40, 52), (2, 3, 9, 33), (1, 3, 1, 1), (1, 3, 1, 70), (1, 3, 2, 3)]


def blur(x: np.ndarray, radius: int) -> np.ndarray:
    """(1, 2, 1)/4 along both axes, taps `radius` apart, edges repeated."""
    for axis in (2, 3):
        width = [(0, 0)] * 4
        width[axis] = (radius, radius)
        padded = np.pad(x, width, mode="edge")
        n = x.shape[axis]
        a, b, c = (np.take(padded, range(o, o + n), axis) for o in (0, radius, 2 * radius))
        x = (a + 2 * b + c) / 4
    return x


def low(x: np.ndarray) -> np.ndarray:
    for level in range(5):
        x = blur(x, 2**level)
    return x


def adain(content: np.ndarray, style: np.ndarray) -> np.ndarray:
    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ddof = min(1, x.shape[2] * x.shape[3] - 1)
        variance = x.var((2, 3), ddof=ddof, keepdims=True)
        return x.mean((2, 3), keepdims=True), np.sqrt(variance + 1e-5)

    (cm, cs), (sm, ss) = moments(content), moments(style)
    return (content - cm) / cs * ss + sm


def main() -> None:
    arrays = {}
    rng = np.random.default_rng(5)
    for i, shape in enumerate(SHAPES):
        # The last picture's contrast is so low that the 1e-5 in AdaIN counts.
        contrast = np.float32(0.01 if i == len(SHAPES) - 1 else 1.0)
        content = contrast * rng.random(shape, dtype=np.float32)
        style = (0.3 + 0.5 * rng.random(shape, dtype=np.float32)).astype(np.float32)
        c, s = content.astype(np.float64), style.astype(np.float64)
        arrays |= {f"{i}.content": content, f"{i}.style": style}
        results = {"blur4": blur(c, 4), "low": low(c), "wavelet": c - low(c) + low(s), "adain": adain(c, s)}
        arrays |= {f"{i}.{name}": value.astype(np.float32) for name, value in results.items()}
    write(__file__, arrays, [], seed=5)


main()
