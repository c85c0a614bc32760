"""What the tests run on: the library and the smallest bundle of this repository."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("DIFFBIR_LIBRARY", str(ROOT / "target" / "release" / "libdiffbir.so"))

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import diffbir  # noqa: E402

# One step and no enlargement: the least work that goes through every graph.
FAST = {"sampler": "edm_euler", "steps": 1, "upscale": 1, "seed": 7}


@pytest.fixture(scope="session")
def bundle():
    return ROOT / "tests" / "fixtures" / "bundle"


@pytest.fixture(scope="session")
def engine(bundle):
    with diffbir.Engine(bundle) as engine:
        yield engine


@pytest.fixture(scope="session")
def picture():
    """A file."""
    return ROOT / "onnx" / "demo" / "pictures" / "coffee.png"


@pytest.fixture(scope="session")
def colours():
    """A small picture, (24, 32, 3), of smooth colours with a disc in it."""
    y, x = np.mgrid[0:24, 0:32]
    disc = (x - 20) ** 2 + (y - 9) ** 2 < 40
    rgb = np.stack([8 * x, 10 * y, 255 - 4 * x - 4 * y], axis=-1)
    rgb[disc] = (240, 60, 20)
    return rgb.astype(np.uint8)


@pytest.fixture(scope="session")
def alpha():
    # From 1: where nothing is seen, the library takes the colours of what is.
    return np.linspace(1, 255, 24 * 32).astype(np.uint8).reshape(24, 32)


@pytest.fixture(scope="session")
def restored(engine, colours):
    """What becomes of `colours`."""
    return engine.restore(colours, **FAST)[0].array().copy()
