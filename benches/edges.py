"""Whether the edges of results are as good as their middle, at sizes that networks have to pad.

    python benches/edges.py PICTURES --bundle onnx/demo

From each size's picture a low-quality one is made (the preset `evaluation` of
`diffbir_export.degrade`) and restored four times as large by the program, once as it is and once
cropped at the top and left so that the result is a multiple of 64 pixels and nothing is padded:
both have the same right and bottom edge. Compared with the clean picture, for stage 1, for the VAE
alone (decode(encode(clean)), in ONNX Runtime) and for the result:

- ratio: mean absolute error of the outer 8 rows and columns over that of the inner ones, over the
  same ratio of the cropped picture;
- line: by how many levels of 255 the mean of one of the last 8 rows or columns is further from the
  clean picture's than in the cropped picture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SCALE, MULTIPLE, OUTER = 4, 64, 8
PADDING = {"sound": {"mode": "reflect"}, "reference": {"constant_values": -1}}
"""What the program pads with, by its `--fidelity`, in [-1, 1]."""
STAGES = ("stage 1", "decode(encode(clean))", "result")


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="edges.py", description=__doc__.split("\n")[0])
    p.add_argument("pictures", type=Path, help="folder of clean pictures of at least 280 pixels")
    p.add_argument("--bundle", type=Path, required=True)
    p.add_argument("--diffbir", type=Path, default=Path("target/release/diffbir"))
    p.add_argument("--sizes", type=int, default=20, help="number of sizes (default: 20)")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--fidelity", choices=PADDING, default="sound")
    return p


def cases(folder: Path, count: int) -> list[np.ndarray]:
    """Clean pictures of `count` sizes, none a multiple of 64; they need no enlarging in stage 1."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    rng, found = np.random.default_rng(0), []
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= 280]
    while len(found) < count:
        picture = pictures[len(found) % len(pictures)]
        height, width = (SCALE * int(rng.integers(66, min(side // SCALE, 115) + 1))
                         for side in picture.shape[:2])  # fmt: skip
        if height % MULTIPLE and width % MULTIPLE:
            found.append(picture[:height, :width])
    return found


def aligned(picture: np.ndarray, multiple: int) -> np.ndarray:
    """Cropped at the top and left to multiples of `multiple`."""
    top, left = (side % multiple for side in picture.shape[:2])
    return picture[top:, left:]


class VAE:
    """The bundle's autoencoder, on pictures in levels."""

    def __init__(self, bundle: Path, fidelity: str) -> None:
        from diffbir_export.verify import session

        self.encoder = session(bundle / "vae_encoder.onnx")
        self.decoder = session(bundle / "vae_decoder.onnx")
        self.padding = PADDING[fidelity]

    def through(self, picture: np.ndarray) -> np.ndarray:
        """decode(encode(picture))."""
        height, width = picture.shape[:2]
        image = picture.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        more = ((0, 0), (0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE))
        [latent] = self.encoder.run(None, {"image": np.pad(image, more, **self.padding)})
        [image] = self.decoder.run(None, {"latent": latent})
        return (image[0, :, :height, :width].transpose(1, 2, 0) + 1) * 127.5


def ratio(found: np.ndarray, truth: np.ndarray) -> float:
    """Error of the outer rows and columns over that of the inner ones."""
    error = np.abs(found.astype(float) - truth).mean(2)
    inner = np.zeros(error.shape, bool)
    inner[OUTER:-OUTER, OUTER:-OUTER] = True
    return error[~inner].mean() / error[inner].mean()


def line(found: np.ndarray, truth: np.ndarray) -> float:
    """How far the mean of one of the last rows or columns is off, in levels."""
    error = found.astype(float) - truth
    means = (error.mean((1, 2))[-OUTER:], error.mean((0, 2))[-OUTER:])
    return max(np.abs(mean).max() for mean in means)


def restore(args: argparse.Namespace, lows: dict[str, np.ndarray], folder: Path) -> None:
    """Restores all low-quality pictures in one run of the program."""
    (folder / "low").mkdir()
    for name, low in lows.items():
        Image.fromarray(low).save(folder / "low" / f"{name}.png")
    command = [args.diffbir, "restore", folder / "low", "-o", folder / "out", "--bundle",
               args.bundle, "--upscale", SCALE, "--steps", args.steps, "--fidelity",
               args.fidelity, "--save-stages", folder / "stages", "--quiet"]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True)


def compare(args: argparse.Namespace, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Ratio and line of each size, by stage."""
    from diffbir_export.degrade import PRESETS, degrade

    truths, lows = cases(args.pictures, args.sizes), {}
    for i, truth in enumerate(truths):
        low = degrade(truth, PRESETS["evaluation"], np.random.default_rng(i), SCALE)
        lows |= {f"{i:02}": low, f"{i:02}a": aligned(low, MULTIPLE // SCALE)}
    restore(args, lows, folder)
    vae = VAE(args.bundle, args.fidelity)
    read = (
        lambda name, _: np.asarray(Image.open(folder / f"stages/{name}_stage1.png")),
        lambda _, truth: vae.through(truth),
        lambda name, _: np.asarray(Image.open(folder / f"out/{name}.png")),
    )
    rows: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    for i, truth in enumerate(truths):
        cropped = aligned(truth, MULTIPLE)
        for stage, result in zip(STAGES, read, strict=True):
            plain, crop = result(f"{i:02}", truth), result(f"{i:02}a", cropped)
            rows[stage].append((ratio(plain, truth) / ratio(crop, cropped),
                                line(plain, truth) - line(crop, cropped)))  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Prints a table of all stages."""
    args = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(args, Path(folder))
    print("| | ratio, median | largest | line, median | largest |\n|---|---|---|---|---|")
    for stage, found in rows.items():
        ratios, lines = np.array(found).T
        cells = (np.median(ratios), ratios.max(), np.median(lines), lines.max())
        print(f"| {stage} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
