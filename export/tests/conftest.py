"""Shared by all tests: the small architectures, and where the reference's goldens are."""

import os
from pathlib import Path

import pytest

from diffbir_export import config
from diffbir_export.cli import main

EXPORT = Path(__file__).resolve().parents[1]
TINY = EXPORT / "demo-arch"


def golden_folder() -> Path | None:
    """The reference's outputs, if this checkout has them beside it."""
    named = os.environ.get("DIFFBIR_GOLDEN")
    folder = Path(named) if named else EXPORT.parents[1] / "shared" / "golden"
    return folder / "tiny" if (folder / "tiny").is_dir() else None


@pytest.fixture(scope="session")
def golden() -> Path:
    folder = golden_folder()
    if folder is None:
        pytest.skip(
            "no golden data of the reference: ../shared/golden does not exist beside the "
            "repository and DIFFBIR_GOLDEN names no folder that holds tiny/"
        )
    return folder


@pytest.fixture(scope="session")
def tiny() -> config.ArchConfig:
    """The demo's sizes."""
    return config.load(TINY, "v1")


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory) -> Path:
    """A bundle of every graph with random weights: v2 has all three cleaners."""
    out = tmp_path_factory.mktemp("random") / "bundle"
    code = main(["--family", "v2", "--arch-config", str(TINY), "--random-weights", "1",
                 "--tasks", "sr,face,denoise", "--min-short-edge", "128",
                 "--out", str(out)])  # fmt: skip
    assert code == 0
    return out


@pytest.fixture(scope="session")
def golden_bundle(golden, tmp_path_factory) -> Path:
    """The reference's tiny checkpoints: v2 uses every checkpoint that there is."""
    out = tmp_path_factory.mktemp("golden") / "bundle"
    files = {"sd": "sd_tiny.ckpt", "control": "control_tiny.pth", "cleaner.sr": "bsrnet_tiny.pth",
             "cleaner.face": "swinir_tiny.ckpt", "cleaner.denoise": "scunet_tiny.pth"}  # fmt: skip
    weights = [f"{role}={golden / name}" for role, name in files.items()]
    code = main(["--family", "v2", "--arch-config", str(golden), "--weights", *weights,
                 "--out", str(out)])  # fmt: skip
    assert code == 0
    return out
