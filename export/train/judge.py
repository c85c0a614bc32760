"""Blind judgements of a round: pairs of pictures with sides drawn for each judge, forms, a count.

    python -m train.judge pairs --round round_1 --diffbir PROGRAM --bundle DIR --data DIR --out DIR
    python -m train.judge count DIR --out judged/round_1.yaml

`pairs` restores the round's 30 pictures, degraded with the preset `evaluation` and their numbers as
seeds, to 512 pixels. Every judge gets a folder of his own: 60 numbered pictures, each a pair side
by side at full size, and `form.yaml` to fill in. One of a pair is the whole pipeline's result; the
other is stage 1, or stage 1 with an unsharp mask of the result's high-frequency energy. Order and
sides differ from judge to judge; `key.yaml` has them, and stays with who counts.
`count` writes the share of judgements that prefer the result and of those that call it damaged,
with all judgements.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageFilter

from diffbir_export.degrade import PRESETS, degrade

from . import pictures
from .evaluate import SCALE, Case, Picture, read, restore, square, write_low
from .metrics import high_energy

EDGE, GAP = 512, 16
"""Of a picture, and between the two of a pair, in pixels."""
OTHERS = ("stage 1", "sharpened")
SIDES = ("left", "right")
ANSWERS = {"preferred": (*SIDES, "tie"), "damaged": ("none", *SIDES, "both")}
RADIUS, STRONGEST = 1.5, 40.0
"""Of the unsharp mask: standard deviation in pixels; largest amount."""

HEAD = """\
# For each picture: which side would you rather have (left, right, tie)? Which side has damage, that
# is something that no camera makes: curls, weave, lost features (none, left, right, both)?
# Look at the pictures at full size, one pixel of theirs on one of the screen's.
"""


def cases(data: Path, name: str) -> list[Case]:
    """A round's pictures."""
    result = []
    for seed, (title, picture) in enumerate(sorted(pictures.load(data, name).items())):
        truth = square(picture, EDGE)
        low = degrade(truth, PRESETS["evaluation"], np.random.default_rng(seed), SCALE)
        result.append(Case(title, truth, low))
    return result


def unsharp(picture: Picture, amount: float) -> Picture:
    """The picture and `amount` times what a Gaussian blur takes from it."""
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(RADIUS))
    values = picture + amount * (picture - np.asarray(blurred, np.float64))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def sharpened(picture: Picture, energy: float) -> Picture:
    """With an unsharp mask that brings the high-frequency energy to `energy`, if it lies above."""
    low, high = 0.0, STRONGEST
    for _ in range(20):
        middle = (low + high) / 2
        if high_energy(unsharp(picture, middle)) < energy:
            low = middle
        else:
            high = middle
    return unsharp(picture, low)


def run_program(program: Path, bundle: Path, all_cases: list[Case]) -> None:
    """Adds `after`, `stage 1` and `sharpened` to every case, with the program's defaults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_low(folder, all_cases)
        out = restore(program, bundle, folder, ())
        for number, case in enumerate(all_cases):
            after = read(out, number)
            stage1 = read(folder / f"stages_{out.name}", number, "*stage1*")
            case.results = {"after": after, "stage 1": stage1,
                            "sharpened": sharpened(stage1, high_energy(after))}  # fmt: skip


def drawn(titles: list[str], judge: int, seed: int) -> Iterator[dict[str, str]]:
    """A judge's pairs in order: the picture, what the result is paired with, the result's side."""
    rng = np.random.default_rng([seed, judge])
    every = [(title, other) for title in titles for other in OTHERS]
    for index in rng.permutation(len(every)):
        title, other = every[index]
        yield {"picture": title, "other": other, "after": SIDES[rng.integers(2)]}


def side_by_side(case: Case, pair: dict[str, str]) -> Image.Image:
    """One pair as the judge sees it."""
    parts = [case.results["after"], case.results[pair["other"]]]
    parts = parts if pair["after"] == "left" else parts[::-1]
    gap = np.full((parts[0].shape[0], GAP, 3), 128, np.uint8)
    return Image.fromarray(np.concatenate([parts[0], gap, parts[1]], 1))


def write_pairs(all_cases: list[Case], judges: int, seed: int, out: Path) -> None:
    """A folder for every judge, and the key."""
    by_title = {case.name: case for case in all_cases}
    key = {}
    for judge in range(1, judges + 1):
        folder = out / f"judge_{judge}"
        folder.mkdir(parents=True)
        pairs = list(drawn(list(by_title), judge, seed))
        for number, pair in enumerate(pairs, 1):
            image = side_by_side(by_title[pair["picture"]], pair)
            image.save(folder / f"{number:02}.png")
        form = {number: dict.fromkeys(ANSWERS) for number in range(1, len(pairs) + 1)}
        (folder / "form.yaml").write_text(HEAD + yaml.safe_dump(form, sort_keys=False))
        key[folder.name] = pairs
    (out / "key.yaml").write_text(yaml.safe_dump(key, sort_keys=False))


def filled(path: Path, count: int) -> dict[int, dict[str, str]]:
    """A form, complete and with known answers alone."""
    form = yaml.safe_load(path.read_text())
    if set(form) != set(range(1, count + 1)):
        raise ValueError(f"{path}: expected answers for the pictures 1 to {count}")
    for number, answers in form.items():
        for question, known in ANSWERS.items():
            if answers.get(question) not in known:
                raise ValueError(f"{path}: picture {number}: answer {question} with one of "
                                 f"{', '.join(known)}")  # fmt: skip
    return form


def judgements(folder: Path) -> list[dict[str, Any]]:
    """All judges' answers, sides resolved: `preferred` is after, other or tie."""
    key = yaml.safe_load((folder / "key.yaml").read_text())
    rows = []
    for judge, pairs in key.items():
        form = filled(folder / judge / "form.yaml", len(pairs))
        for number, pair in enumerate(pairs, 1):
            answers, side = form[number], pair["after"]
            preferred = {side: "after", "tie": "tie"}.get(answers["preferred"], "other")
            damaged = answers["damaged"] in (side, "both")
            rows.append({"judge": judge, "picture": pair["picture"], "other": pair["other"],
                         "side": side, "preferred": preferred, "damaged": damaged})  # fmt: skip
    return rows


def shares(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Against each of OTHERS: shares of judgements that prefer the result, tie, call it damaged."""
    result = {}
    for other in OTHERS:
        of = [row for row in rows if row["other"] == other]
        count = {name: sum(row["preferred"] == name for row in of) for name in ("after", "tie")}
        count["damaged"] = sum(row["damaged"] for row in of)
        result[other] = {name: round(n / len(of), 4) for name, n in count.items()}
    return result


def main() -> None:
    """Makes pairs or counts."""
    parser = argparse.ArgumentParser(prog="train.judge", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("pairs", help="restore a round and write the judges' folders")
    make.add_argument("--round", required=True, choices=pictures.ROUNDS)
    make.add_argument("--diffbir", type=Path, required=True, help="the program")
    make.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    make.add_argument("--data", type=Path, required=True, metavar="DIR", help="the shards")
    make.add_argument("--judges", type=int, default=3)
    make.add_argument("--seed", type=int, default=0, help="of order and sides")
    count = commands.add_parser("count", help="read the filled-in forms")
    count.add_argument("folder", type=Path)
    for command in (make, count):
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "count":
        rows = judgements(args.folder)
        text = yaml.safe_dump({"shares": shares(rows), "judgements": rows}, sort_keys=False)
        args.out.write_text(text)
        print(yaml.safe_dump(shares(rows), sort_keys=False))
        return
    all_cases = cases(args.data, args.round)
    run_program(args.diffbir, args.bundle, all_cases)
    write_pairs(all_cases, args.judges, args.seed, args.out)


if __name__ == "__main__":
    main()
