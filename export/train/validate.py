"""Measures a run on the validation pictures, without the program: what settings are chosen on.

    python -m train.validate RUN --data DIR [--steps 10] [--sheets DIR] [--demo PICTURES]

Each validation picture gives the middle square at 256 pixels and, if it is large enough, the middle
of its square at 512, degraded with the preset `evaluation`. The sampler draws the program's
timesteps but other noise; colours are the cleaner's, as in the program. `--sheets` writes what each
row makes of each picture side by side, at one pixel a pixel; `--demo` adds the demo's pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffbir_export.degrade import PRESETS, degrade

from . import loop, pictures
from .bundle import averaged, decoder_of, factor_of
from .data import to_tensor
from .evaluate import SCALE, Case, bicubic, noisy, square, table
from .losses import low_frequencies
from .metrics import high_energy, high_ratio
from .networks import Sampler, empty_context, load_arch
from .teacher import Teacher

EDGE = 256
SEED = 1000
"""Pictures that are measured at the end have small seeds."""


def cases(data: Path) -> list[Case]:
    """The validation squares."""
    result = []
    for name, picture in sorted(pictures.load(data, "validation").items()):
        for edge in (EDGE, 2 * EDGE):
            if min(picture.shape[:2]) < edge:
                continue
            start = (edge - EDGE) // 2
            truth = square(picture, edge)[start : start + EDGE, start : start + EDGE]
            rng = np.random.default_rng(SEED + len(result))
            low = degrade(truth, PRESETS["evaluation"], rng, SCALE)
            result.append(Case(f"{name} {edge}", truth, low))
    return result


def to_pictures(x: Tensor) -> list[np.ndarray]:
    """f32 [N,3,H,W] in [0,1] -> u8 [H,W,3] each."""
    return list(np.clip(np.rint(x.permute(0, 2, 3, 1).numpy() * 255), 0, 255).astype(np.uint8))


class Networks:
    """A run's networks, averaged, and the teacher."""

    def __init__(self, run: Path, data: Path, steps: int) -> None:
        arch = load_arch()
        self.vae, self.cleaner, denoiser = averaged(run, arch)
        self.vae.decoder.load_state_dict(decoder_of(loop.read(run, "decoder")["ema"]))
        self.vae, self.cleaner = self.vae.eval(), self.cleaner.eval()
        context = empty_context(arch)
        self.sampler = Sampler(arch, denoiser.eval(), context, factor_of(run), steps)
        self.teacher, self.full = Teacher(data), f"full, {steps} steps"

    def decode(self, latent: Tensor, clean: Tensor) -> list[np.ndarray]:
        """Pictures of latents in the cleaner's colours."""
        image = (self.vae.decoder(latent) + 1) / 2
        return to_pictures(image + low_frequencies(clean - image))

    @torch.inference_mode()
    def restore(self, lows: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """Row -> what it makes of degraded pictures of one size."""
        enlarged = [bicubic(low) for low in lows]
        clean = self.cleaner(to_tensor(np.stack(enlarged), "cpu")).clamp(0, 1)
        hint = self.vae.encode(clean * 2 - 1)
        g = torch.Generator().manual_seed(SEED)
        sample = self.sampler.sample(hint, torch.randn(hint.shape, generator=g), g)
        return {"bicubic": enlarged, "stage 1": to_pictures(clean),
                "condition decoded": self.decode(hint, clean),
                self.full: self.decode(sample, clean),
                "teacher": list(self.teacher(np.stack(lows)))}  # fmt: skip

    @torch.inference_mode()
    def reconstruct(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """The autoencoder alone, with the finished decoder."""
        latent = self.vae.encode(to_tensor(np.stack(pictures), "cpu") * 2 - 1)
        return to_pictures((self.vae.decoder(latent) + 1) / 2)


def measure(networks: Networks, all_cases: list[Case]) -> None:
    """Adds every row."""
    rows = networks.restore([case.low for case in all_cases])
    rows["autoencoder alone"] = networks.reconstruct([case.truth for case in all_cases])
    rows["autoencoder, teacher's"] = networks.reconstruct(rows["teacher"])
    for number, case in enumerate(all_cases):
        case.results = {name: found[number] for name, found in rows.items()}
        energy = high_energy(case.results[networks.full])
        case.results["stage 1 + noise"] = noisy(case.results["stage 1"], energy, number)


SHOWN = ("bicubic", "stage 1", "full", "teacher")
"""What a sheet shows, by how the row's name begins, before the truth if there is one."""


def write_sheet(path: Path, rows: dict[str, np.ndarray], truth: list[np.ndarray]) -> None:
    """The rows of one picture side by side."""
    shown = [rows[name] for start in SHOWN for name in rows
             if name.startswith(start) and "noise" not in name]  # fmt: skip
    Image.fromarray(np.concatenate([*shown, *truth], 1)).save(path)


def write_sheets(folder: Path, networks: Networks, all_cases: list[Case], demo: Path) -> None:
    """A sheet for every case and every picture of the demo."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in all_cases:
        write_sheet(folder / f"{case.name}.png", case.results, [case.truth])
    for path in sorted(demo.glob("*.png")) if demo else ():
        with Image.open(path) as image:
            low = np.asarray(image.convert("RGB"))
        rows = {name: found[0] for name, found in networks.restore([low]).items()}
        write_sheet(folder / f"demo {path.stem}.png", rows, [])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="train.validate", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the shards")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=int, default=None, help="only the first N squares")
    parser.add_argument("--sheets", type=Path, metavar="DIR")
    parser.add_argument("--demo", type=Path, metavar="DIR")
    args = parser.parse_args()
    networks, all_cases = Networks(args.run, args.data, args.steps), cases(args.data)[: args.limit]
    measure(networks, all_cases)
    if args.sheets:
        write_sheets(args.sheets, networks, all_cases, args.demo)
    print(f"{len(all_cases)} squares of validation pictures, {SCALE}x, means.\n")
    print(table(all_cases, list(all_cases[0].results), args.data))
    ratios = [high_ratio(case.results[networks.full], case.truth) for case in all_cases]
    print(f"{networks.full}: high-frequency ratio {np.median(ratios):.3f} as a median; a few very "
          "smooth pictures make the mean.")  # fmt: skip


if __name__ == "__main__":
    main()
