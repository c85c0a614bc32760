"""Blind judgements: what judges see, and how their answers are counted."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import synthetic
from PIL import Image

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from train import judge  # noqa: E402
from train.evaluate import Case  # noqa: E402
from train.metrics import high_energy  # noqa: E402

WHITE, GREY, BLACK = (np.full((32, 32, 3), value, np.uint8) for value in (255, 128, 0))


@pytest.fixture
def folder(tmp_path):
    """Four pictures, three judges: the result is white, stage 1 black, the sharpened one grey."""
    cases = []
    for title in "abcd":
        results = {"after": WHITE, "stage 1": BLACK, "sharpened": GREY}
        cases.append(Case(title, WHITE, BLACK, results))
    judge.write_pairs(cases, 3, 0, tmp_path / "pairs")
    return tmp_path / "pairs"


def answer(folder: Path, choose) -> None:
    """Fills in every form: `choose(left, right)` of the two halves' mean levels."""
    for path in folder.glob("judge_*/form.yaml"):
        form = yaml.safe_load(path.read_text())
        for number in form:
            image = np.asarray(Image.open(path.with_name(f"{number:02}.png")))
            form[number] = choose(image[:, :32].mean(), image[:, -32:].mean())
        path.write_text(yaml.safe_dump(form))


def brightest(left: float, right: float) -> dict[str, str]:
    """Prefers the bright side; black is damage."""
    side = "left" if left > right else "right"
    damaged = {left: "left", right: "right"}.get(0.0, "none")
    return {"preferred": side, "damaged": damaged}


class TestPairs:
    def test_every_judge_sees_every_pair_once(self, folder):
        key = yaml.safe_load((folder / "key.yaml").read_text())
        assert list(key) == ["judge_1", "judge_2", "judge_3"]
        for pairs in key.values():
            seen = {(pair["picture"], pair["other"]) for pair in pairs}
            assert len(pairs) == 8 and seen == {(t, o) for t in "abcd" for o in judge.OTHERS}
        orders = [[(p["picture"], p["other"]) for p in pairs] for pairs in key.values()]
        assert orders[0] != orders[1] != orders[2]

    def test_sides_are_drawn(self):
        sides = [[pair["after"] for pair in judge.drawn([*"abcdefghij"], number, 0)]
                 for number in (1, 2)]  # fmt: skip
        assert all(4 < found.count("left") < 16 for found in sides) and sides[0] != sides[1]

    def test_nothing_a_judge_gets_names_the_sides(self, folder):
        for file in folder.glob("judge_*/*"):
            assert file.suffix == ".png" or file.name == "form.yaml"
            assert b"after" not in file.read_bytes() and b"stage 1" not in file.read_bytes()
            assert file.suffix != ".png" or not Image.open(file).info


class TestCount:
    def test_the_result_wins_wherever_it_is(self, folder):
        answer(folder, brightest)
        rows = judge.judgements(folder)
        assert len(rows) == 24 and {row["side"] for row in rows} == {"left", "right"}
        wanted = {"after": 1.0, "tie": 0.0, "damaged": 0.0}
        assert judge.shares(rows) == dict.fromkeys(judge.OTHERS, wanted)

    def test_the_result_loses_wherever_it_is(self, folder):
        answer(folder, lambda left, right: {
            "preferred": "left" if left < right else "right",
            "damaged": "left" if left > right else "right"})  # fmt: skip
        wanted = {"after": 0.0, "tie": 0.0, "damaged": 1.0}
        assert judge.shares(judge.judgements(folder)) == dict.fromkeys(judge.OTHERS, wanted)

    def test_ties_are_no_preference(self, folder):
        answer(folder, lambda left, right: {"preferred": "tie", "damaged": "both"})
        wanted = {"after": 0.0, "tie": 1.0, "damaged": 1.0}
        assert judge.shares(judge.judgements(folder)) == dict.fromkeys(judge.OTHERS, wanted)

    def test_an_open_form_is_refused(self, folder):
        with pytest.raises(ValueError, match=r"answer preferred with one of left, right, tie"):
            judge.judgements(folder)
        answer(folder, brightest)
        path = folder / "judge_2" / "form.yaml"
        form = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({k: v for k, v in form.items() if k != 5}))
        with pytest.raises(ValueError, match="pictures 1 to 8"):
            judge.judgements(folder)


def test_the_mask_has_the_energy_asked_for():
    """Below the picture's own energy the mask does nothing."""
    picture = synthetic(1)[0]
    energy = high_energy(judge.unsharp(picture, 1.0))
    assert high_energy(judge.sharpened(picture, energy)) == pytest.approx(energy, rel=0.02)
    assert np.array_equal(judge.sharpened(picture, high_energy(picture) / 2), picture)
