"""What settings are chosen on: squares of the validation pictures, measured without the program."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from train import data, losses, validate  # noqa: E402


def test_a_flat_picture_keeps_its_colour():
    flat = torch.full((1, 3, 80, 96), 0.25)
    assert torch.allclose(losses.low_frequencies(flat), flat)


def test_detail_is_not_taken_from_the_cleaner():
    """The finest pattern is gone after the blur, the mean is not."""
    checks = torch.zeros(1, 3, 96, 96)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = 1
    assert torch.allclose(losses.low_frequencies(checks), torch.full_like(checks, 0.5), atol=0.05)


def test_pictures_round_trip():
    pictures = [np.random.default_rng(i).integers(0, 256, (8, 9, 3), np.uint8) for i in range(2)]
    found = validate.to_pictures(data.to_tensor(np.stack(pictures), "cpu"))
    assert all(np.array_equal(a, b) for a, b in zip(found, pictures, strict=True))


def test_each_picture_gives_the_squares_it_has_room_for(monkeypatch):
    sizes = {"a": (300, 280, 3), "b": (600, 520, 3), "c": (200, 400, 3)}
    made = {name: np.zeros(size, np.uint8) for name, size in sizes.items()}
    monkeypatch.setattr(validate.pictures, "load", lambda data, kind: made)
    found = validate.cases(Path())
    assert [case.name for case in found] == ["a 256", "b 256", "b 512"]
    assert all(case.truth.shape == (256, 256, 3) for case in found)


def test_a_sheet_has_the_rows_side_by_side(tmp_path):
    names = ("bicubic", "stage 1", "condition decoded", "full, 10 steps", "teacher",
             "stage 1 + noise")  # fmt: skip
    rows = {name: np.full((8, 8, 3), 40 * i, np.uint8) for i, name in enumerate(names)}
    validate.write_sheet(tmp_path / "a.png", rows, [np.full((8, 8, 3), 255, np.uint8)])
    found = np.asarray(Image.open(tmp_path / "a.png"))
    assert found.shape == (8, 40, 3)
    assert found[0, ::8, 0].tolist() == [0, 40, 120, 160, 255]
