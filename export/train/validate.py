"""Measures a run on the validation pictures, without the program: what settings are chosen on.

    python -m train.validate RUN --data DIR [--steps 10]

Each validation picture gives the middle square at 256 pixels and, if it is large enough, the middle
of its square at 512, degraded with the preset `evaluation`. The sampler draws the program's
timesteps but other noise; colours are the cleaner's, as in the program.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffbir_export.degrade import PRESETS, degrade

from . import loop, pictures
from .bundle import averaged, decoder_of, factor_of
from .data import to_tensor
from .evaluate import SCALE, Case, bicubic, noisy, square, table
from .losses import low_frequencies
from .metrics import high_energy, high_ratio
from .networks import Sampler, empty_context, load_arch

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


@torch.inference_mode()
def measure(run: Path, all_cases: list[Case], steps: int) -> None:
    """Adds every row."""
    arch = load_arch()
    vae, cleaner, denoiser = averaged(run, arch)
    vae.decoder.load_state_dict(decoder_of(loop.read(run, "decoder")["ema"]))
    vae, cleaner = vae.eval(), cleaner.eval()
    sampler = Sampler(arch, denoiser.eval(), empty_context(arch), factor_of(run), steps)
    enlarged = [bicubic(case.low) for case in all_cases]
    clean = cleaner(to_tensor(np.stack(enlarged), "cpu")).clamp(0, 1)
    truth = to_tensor(np.stack([case.truth for case in all_cases]), "cpu")
    truth = vae.encode(truth * 2 - 1)
    hint = vae.encode(clean * 2 - 1)
    g = torch.Generator().manual_seed(SEED)
    sample = sampler.sample(hint, torch.randn(hint.shape, generator=g), g)
    print(f"root mean square error of latents: condition {(hint - truth).std():.4f}, "
          f"sample {(sample - truth).std():.4f}")  # fmt: skip

    def decode(latent: Tensor) -> Tensor:
        image = (vae.decoder(latent) + 1) / 2
        return image + low_frequencies(clean - image)

    rows = {"bicubic": enlarged, "stage 1": to_pictures(clean),
            "autoencoder alone": to_pictures((vae.decoder(truth) + 1) / 2),
            "condition decoded": to_pictures(decode(hint)),
            f"full, {steps} steps": to_pictures(decode(sample))}  # fmt: skip
    for number, case in enumerate(all_cases):
        case.results = {name: found[number] for name, found in rows.items()}
        energy = high_energy(case.results[f"full, {steps} steps"])
        case.results["stage 1 + noise"] = noisy(case.results["stage 1"], energy, number)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="train.validate", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the shards")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    all_cases = cases(args.data)
    measure(args.run, all_cases, args.steps)
    print(f"{len(all_cases)} squares of validation pictures, {SCALE}x, means.\n")
    print(table(all_cases, list(all_cases[0].results)))
    full = f"full, {args.steps} steps"
    ratios = [high_ratio(case.results[full], case.truth) for case in all_cases]
    print(f"{full}: high-frequency ratio {np.median(ratios):.3f} as a median; a few very smooth "
          "pictures make the mean.")  # fmt: skip


if __name__ == "__main__":
    main()
