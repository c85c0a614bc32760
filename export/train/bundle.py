"""Turns a run into checkpoints in the official layouts, and those into the bundle.

python -m train.bundle RUN --bundle ../onnx/demo
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from diffbir_export import cli
from diffbir_export.config import ArchConfig
from diffbir_export.models.control import Denoiser
from diffbir_export.models.swinir import SwinIR

from . import latents, loop
from .networks import ARCH, VAE, build_cleaner, build_denoiser, checkpoints, load_arch
from .stages import NEEDS, STAGES

MIN_SHORT_EDGE = 256
RECOVERED_SCALE = "recovered_latent_scale"
"""File that `recover` leaves in a run."""


def write_arch(folder: Path, factor: float) -> None:
    """The architecture's files with the measured latent scale."""
    shutil.copytree(ARCH, folder, dirs_exist_ok=True)
    path = folder / "cldm.yaml"
    text, count = re.subn(r"latent_scale_factor: \S+", f"latent_scale_factor: {factor}",
                          path.read_text())  # fmt: skip
    if count != 1:
        raise ValueError(f"{path}: expected one latent_scale_factor, found {count}")
    path.write_text(text)


def decoder_of(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sharpened decoder's weights, without its critic's."""
    start = "decoder."
    return {k.removeprefix(start): v for k, v in average.items() if k.startswith(start)}


def averaged(run: Path, arch: ArchConfig) -> tuple[VAE, SwinIR, Denoiser]:
    """A run's networks with their EMA weights, the decoder not yet sharpened."""
    average = {name: loop.read(run, name)["ema"] for name in STAGES if name != "decoder"}
    vae, cleaner = VAE(arch), build_cleaner(arch, "cpu")
    vae.load_state_dict(average["vae"])
    cleaner.load_state_dict(average["cleaner"])
    denoiser = build_denoiser(arch, average["unet"])
    denoiser.control.load_state_dict(average["control"])
    return vae, cleaner, denoiser


def write_checkpoints(run: Path, factor: float) -> dict[str, Path]:
    """Role -> file, from the EMA weights."""
    arch = load_arch()
    vae, cleaner, denoiser = averaged(run, arch)
    vae.decoder.load_state_dict(decoder_of(loop.read(run, "decoder")["ema"]))
    write_arch(run / "arch", factor)
    files = {}
    for role, state in checkpoints(arch, vae, cleaner, denoiser).items():
        files[role] = run / f"{role.replace('.', '_')}.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, files[role])
    return files


def factor_of(run: Path) -> float:
    """The latent scale that the run's UNet was trained with; a recovered one's is written down."""
    recovered = run / RECOVERED_SCALE
    if recovered.is_file() and loop.read(run, "unet")["step"] == 0:
        return float(recovered.read_text())
    steps = dict(loop.read(run, "unet")["parents"])
    name = "_".join(f"{need}{steps[need]}" for need in NEEDS["unet"])
    return latents.Pool(*latents.load(run / f"pool_{name}")).factor()


def export(run: Path, out: Path) -> int:
    """Calls the exporter as a user would; returns its exit code."""
    files = write_checkpoints(run, factor_of(run))
    cleaner = files.pop("cleaner.sr")
    roles = {**files, **{f"cleaner.{task}": cleaner for task in ("sr", "face", "denoise")}}
    return cli.main([
        "--family", "custom", "--trained", "--arch-config", str(run / "arch"),
        "--weights", *(f"{role}={file}" for role, file in roles.items()),
        "--weights-storage", "fp16", "--no-text-encoder", "--guidance-graph",
        "--min-short-edge", str(MIN_SHORT_EDGE), "--out", str(out), "--overwrite",
    ])  # fmt: skip


def main() -> int:
    """Exports a run."""
    parser = argparse.ArgumentParser(prog="train.bundle", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    return export(args.run, args.bundle)


if __name__ == "__main__":
    sys.exit(main())
