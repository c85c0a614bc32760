"""Measures the bundle on held-out pictures and writes the model card's table.

    python -m train.evaluate --diffbir ../target/release/diffbir --bundle ../onnx/demo \
        --data RUN/data --out table.md

Every held-out picture gives one square of 256 or 512 pixels (its short side decides), degraded with
the preset `evaluation` and its number as seed; the program restores it four times as large.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from diffbir_export.degrade import PRESETS, degrade
from diffbir_export.verify import session

from . import pictures
from .data import Crops, generator
from .inception import Inception
from .metrics import METRICS, band_mask, high_energy, psnr
from .teacher import Teacher

SCALE = 4
STEPS = (50, 10, 5)
TUNING = 12
"""Training crops that the classical method is tuned on."""

GUIDANCE_SCALES = (0, 0.02, 0.05, 0.1, 0.2, 0.4)
GUIDANCE_STEPS = 10

MARKS = ("<!-- figures -->", "<!-- end of figures -->")
"""What the model card has around the table."""

Picture = np.ndarray


@dataclass
class Case:
    """One picture: the truth, its degraded version, and results by row name."""

    name: str
    truth: Picture
    low: Picture
    results: dict[str, Picture] = field(default_factory=dict)


def square(picture: Picture, edge: int) -> Picture:
    """The middle square, brought to `edge` pixels."""
    side = min(picture.shape[:2])
    top, left = ((s - side) // 2 for s in picture.shape[:2])
    image = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(image.resize((edge, edge), Image.Resampling.LANCZOS))


def extra() -> dict[str, Picture]:
    """scikit-image's and scikit-learn's pictures, as far as the packages are installed."""
    wanted = pictures.sources()["always_held_out"]
    found = {}
    try:
        from skimage import data

        found |= {name: getattr(data, name)() for name in wanted["skimage"]}
    except (ImportError, OSError, ValueError) as error:
        print(f"without scikit-image's pictures: {error}", file=sys.stderr)
    try:
        from sklearn.datasets import load_sample_image

        found |= {name: load_sample_image(f"{name}.jpg") for name in wanted["sklearn"]}
    except ImportError as error:
        print(f"without scikit-learn's pictures: {error}", file=sys.stderr)
    return {name: picture[..., :3] for name, picture in found.items()}


def cases(data: Path) -> list[Case]:
    """Every held-out picture, degraded with its number as seed; half of them at 512 pixels."""
    result = []
    held_out = pictures.load(data, "held_out") | extra()
    for seed, (name, picture) in enumerate(sorted(held_out.items())):
        edge = 512 if min(picture.shape[:2]) >= 512 and seed % 2 else 256
        truth = square(picture, edge)
        low = degrade(truth, PRESETS["evaluation"], np.random.default_rng(seed), SCALE)
        result.append(Case(name, truth, low))
    return result


def bicubic(low: Picture) -> Picture:
    """Four times as large."""
    size = (low.shape[1] * SCALE, low.shape[0] * SCALE)
    return np.asarray(Image.fromarray(low).resize(size, Image.Resampling.BICUBIC))


def bilateral(low: Picture, sigma: float, spread: float) -> Picture:
    """Edge-preserving smoothing."""
    from skimage.restoration import denoise_bilateral

    result = denoise_bilateral(low, sigma_color=sigma, sigma_spatial=spread, channel_axis=-1)
    return np.rint(result * 255).astype(np.uint8)


def non_local_means(low: Picture, h: float, patch: float) -> Picture:
    """Averages of similar patches."""
    from skimage.restoration import denoise_nl_means

    result = denoise_nl_means(low, patch_size=int(patch), patch_distance=7, h=h, channel_axis=-1)
    result = result if result.max() > 1.5 else result * 255
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def grid() -> dict[str, Callable[[Picture], Picture]]:
    """The classical methods that are tried."""
    result = {}
    for sigma, spread in product((0.03, 0.06, 0.1), (1.0, 2.0)):
        name = f"bilateral {sigma} {spread:g}"
        result[name] = lambda low, s=sigma, r=spread: bilateral(low, s, r)
    for h, patch in product((2.0, 4.0, 8.0, 12.0), (3, 5)):
        result[f"non-local means {h:g} {patch}"] = lambda low, h=h, p=patch: non_local_means(
            low.astype(np.float32), h, p
        )
    return result


def best_classical(data: Path) -> tuple[str, Callable[[Picture], Picture]] | None:
    """The method with the highest PSNR on training crops; None without scikit-image."""
    try:
        import skimage  # noqa: F401
    except ImportError:
        print("without the classical row: scikit-image is not installed", file=sys.stderr)
        return None
    crops = Crops(list(pictures.load(data, "train").values()))
    pairs = []
    for seed in range(TUNING):
        truth = crops.draw(256, generator(1, "tuning", seed))
        low = degrade(truth, PRESETS["evaluation"], np.random.default_rng(10_000 + seed), SCALE)
        pairs.append((truth, low))
    scores = {
        name: np.mean([psnr(bicubic(method(low)), truth) for truth, low in pairs])
        for name, method in grid().items()
    }
    best = max(scores, key=scores.get)
    return best, grid()[best]


def write_low(folder: Path, all_cases: list[Case]) -> None:
    """The degraded pictures as PNG, by their numbers."""
    (folder / "low").mkdir()
    for number, case in enumerate(all_cases):
        Image.fromarray(case.low).save(folder / "low" / f"{number:03}.png")


def restore(program: Path, bundle: Path, folder: Path, flags: tuple[str, ...]) -> Path:
    """Runs the program on every PNG of `folder/low`; returns the folder of the results."""
    out = folder / "_".join(("out", *flags)).replace("-", "")
    stages = folder / f"stages_{out.name}"
    command = [program, "restore", folder / "low", "-o", out, "--bundle", bundle, "--quiet",
               "--upscale", str(SCALE), "--save-stages", stages, *flags]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True)
    return out


def read(folder: Path, number: int, ending: str = "") -> Picture:
    """One result, by its number."""
    (path,) = folder.glob(f"{number:03}{ending}.png")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def noisy(picture: Picture, energy: float, seed: int) -> Picture:
    """The control row: noise in the band, so strong that the band's energy becomes `energy`."""
    shape = picture.shape[:2]
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    noise = np.fft.irfft2(white * band_mask(shape), shape)
    missing = max(energy - high_energy(picture), 0.0)
    middle = np.full((*shape, 3), 128.0) + noise[..., None]
    noise *= np.sqrt(missing / high_energy(middle))
    return np.clip(np.rint(picture + noise[..., None]), 0, 255).astype(np.uint8)


def run_program(args: argparse.Namespace, all_cases: list[Case]) -> None:
    """Adds stage 1, the whole pipeline and its variants to every case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_low(folder, all_cases)
        runs = {f"full, {steps} steps": ("--steps", str(steps)) for steps in args.steps}
        runs["full, strength 0"] = ("--steps", str(args.steps[0]), "--strength", "0")
        for row, flags in runs.items():
            out = restore(args.diffbir, args.bundle, folder, flags)
            for number, case in enumerate(all_cases):
                case.results[row] = read(out, number)
                if "stage 1" not in case.results:
                    stages = folder / f"stages_{out.name}"
                    case.results["stage 1"] = read(stages, number, "*stage1*")
    for number, case in enumerate(all_cases):
        energy = high_energy(case.results[f"full, {args.steps[0]} steps"])
        case.results["stage 1 + noise"] = noisy(case.results["stage 1"], energy, number)


def guidance_table(args: argparse.Namespace, all_cases: list[Case]) -> str:
    """How far results are from stage 1 under restoration guidance of rising scale."""
    lines = ["| guidance scale | PSNR to stage 1 | PSNR to the truth |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_low(folder, all_cases)
        for scale in GUIDANCE_SCALES:
            flags = ("--steps", str(GUIDANCE_STEPS), "--guidance-scale", str(scale))
            out = restore(args.diffbir, args.bundle, folder, flags)
            found = [read(out, number) for number in range(len(all_cases))]
            to_stage1 = np.mean([psnr(x, case.results["stage 1"])
                                 for x, case in zip(found, all_cases, strict=True)])  # fmt: skip
            to_truth = np.mean([psnr(x, case.truth)
                                for x, case in zip(found, all_cases, strict=True)])  # fmt: skip
            lines.append(f"| {scale} | {to_stage1:.2f} | {to_truth:.2f} |")
    heading = f"Restoration guidance in latent space, {GUIDANCE_STEPS} steps:"
    return heading + "\n\n" + "\n".join(lines) + "\n"


def reconstruct(bundle: Path, all_cases: list[Case]) -> None:
    """Adds the autoencoder alone: the truth through encoder and decoder."""
    encoder, decoder = (session(bundle / f"vae_{half}.onnx") for half in ("encoder", "decoder"))
    for case in all_cases:
        image = case.truth.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
        (latent,) = encoder.run(None, {"image": image})
        (found,) = decoder.run(None, {"latent": latent})
        values = np.rint((found[0].transpose(1, 2, 0) + 1) * 127.5)
        case.results["autoencoder alone"] = np.clip(values, 0, 255).astype(np.uint8)


def by_size(all_cases: list[Case]) -> str:
    """The autoencoder's PSNR for each size of picture."""
    lines = []
    for edge in sorted({case.truth.shape[0] for case in all_cases}):
        chosen = [case for case in all_cases if case.truth.shape[0] == edge]
        mean = np.mean([psnr(case.results["autoencoder alone"], case.truth) for case in chosen])
        lines.append(f"Autoencoder alone at {edge} px: {mean:.2f} dB ({len(chosen)} pictures).")
    return "\n".join(lines) + "\n"


def table(all_cases: list[Case], rows: list[str], data: Path) -> str:
    """Means over all pictures as Markdown; `data` is where the measuring network's package lies."""
    metrics = METRICS | {"feature distance": Inception(data).distance}
    lines = ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for row in rows:
        means = [np.mean([metric(case.results[row], case.truth) for case in all_cases])
                 for metric in metrics.values()]  # fmt: skip
        digits = (2, 4, 4, 4, 3, 4)
        cells = [f"{mean:.{d}f}" for mean, d in zip(means, digits, strict=True)]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def insert(path: Path, text: str) -> None:
    """Writes the text to a file; into one that has the marks, between them."""
    before = path.read_text() if path.is_file() else ""
    if all(mark in before for mark in MARKS):
        head, rest = before.split(MARKS[0], 1)
        text = f"{head}{MARKS[0]}\n{text}{MARKS[1]}{rest.split(MARKS[1], 1)[1]}"
    path.write_text(text)


def program_parser(name: str, description: str, steps: tuple[int, ...]) -> argparse.ArgumentParser:
    """The command line of a script that measures the program on pictures."""
    p = argparse.ArgumentParser(prog=f"train.{name}", description=description.split("\n")[0])
    p.add_argument("--diffbir", type=Path, required=True, help="the program")
    p.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="the shards")
    p.add_argument("--out", type=Path, required=True, metavar="FILE")
    p.add_argument("--steps", type=int, nargs="+", default=list(steps))
    p.add_argument("--limit", type=int, default=None, help="only the first N pictures")
    return p


def main() -> None:
    """Writes the table."""
    args = program_parser("evaluate", __doc__, STEPS).parse_args()
    pictures.ensure(args.data)
    all_cases = cases(args.data)[: args.limit]
    rows = ["bicubic"]
    classical = best_classical(args.data)
    for case in all_cases:
        case.results["bicubic"] = bicubic(case.low)
        if classical:
            case.results[classical[0]] = bicubic(classical[1](case.low))
    rows += [classical[0]] if classical else []
    teach = Teacher(args.data)
    for case in all_cases:
        (case.results["teacher"],) = teach(case.low[None])
    reconstruct(args.bundle, all_cases)
    run_program(args, all_cases)
    rows += ["teacher", "autoencoder alone", "stage 1", "stage 1 + noise",
             *(name for name in all_cases[0].results if name.startswith("full"))]  # fmt: skip
    text = (
        f"{len(all_cases)} pictures, {SCALE}x, means.\n\n"
        + table(all_cases, rows, args.data)
        + "\n"
        + by_size(all_cases)
        + "\n"
        + guidance_table(args, all_cases)
    )
    insert(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
