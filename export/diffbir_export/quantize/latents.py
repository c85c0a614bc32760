"""What the denoiser and the decoder get to see in a run: pictures through a bundle's own pipeline.

Cleaner, encoder and the sampler's loop as the engine runs them, at the smallest size that it takes,
on the bundle's schedule. Noise is numpy's, seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from ..bands import Arrays, session
from ..errors import UsageError

UPSCALE = 4
"""What a low-quality picture is enlarged by."""
MULTIPLE = 64
"""Edges that every graph takes."""
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass
class Records:
    """The inputs of one graph, a run each, for the pictures that ranges are taken from."""

    runs: list[Arrays]
    checks: list[Arrays]
    """The same of pictures set apart, that the loss is measured on."""


def pictures(folder: Path, limit: int | None) -> list[Image.Image]:
    """The pictures in a folder, by name."""
    if not folder.is_dir():
        raise UsageError(f"--pictures {folder}: is no folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not files:
        raise UsageError(f"--pictures {folder}: holds no picture ({' '.join(ENDINGS)})")
    found = []
    for path in files[:limit]:
        try:
            with Image.open(path) as opened:
                found.append(opened.convert("RGB"))
        except OSError as error:
            raise UsageError(f"{path}: {error}") from None
    return found


def whole(entry: dict[str, Any], provider: str = "cpu") -> dict[str, Any]:
    """The variant for the CPU that stands for a graph, or the graph itself."""
    for variant in entry["variants"]:
        fits = variant["provider"] == provider and variant.get("role", "whole") == "whole"
        if fits and variant["precision"] == entry["precision"]:
            return variant
    return entry


def alphas_cumprod(diffusion: dict[str, Any]) -> np.ndarray:
    """f64 [timesteps]: linear in the square root of beta, perhaps rescaled to end at zero."""
    ends = (diffusion["linear_start"] ** 0.5, diffusion["linear_end"] ** 0.5)
    alphas = np.cumprod(1 - np.linspace(*ends, diffusion["timesteps"]) ** 2)
    if diffusion["zero_snr"]:
        roots = np.sqrt(alphas)  # Lin et al., arXiv 2305.08891, algorithm 1
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return alphas


class Pipeline:
    """The graphs of a bundle, run in ONNX Runtime on the CPU."""

    def __init__(self, folder: Path, document: dict[str, Any], steps: int) -> None:
        self.folder, self.document, self.steps = folder, document, steps
        graphs = document["graphs"]
        task = document["tasks"].get("sr") or next(iter(document["tasks"].values()))
        self.cleaner = graphs[task["cleaner"]]
        kinds = {entry["kind"]: entry for entry in graphs.values()}
        if missing := {"vae_encoder", "denoiser"} - kinds.keys():
            raise UsageError(f"{folder}: the bundle has no {' and no '.join(sorted(missing))}")
        self.encoder, self.denoiser = kinds["vae_encoder"], kinds["denoiser"]
        self.edge = -(-document["min_short_edge"] // MULTIPLE) * MULTIPLE
        self.contexts = self.branches()

    def load(self, entry: dict[str, Any]) -> Any:
        """A session of a graph."""
        return session((self.folder / whole(entry)["file"]).read_bytes(), self.folder)

    def branches(self) -> np.ndarray:
        """The contexts [B,tokens,C] of the bundle's default prompts; one without guidance."""
        defaults, contexts = self.document["defaults"], self.document["contexts"]
        tensors = load_file(self.folder / contexts["file"])
        names = {entry["prompt"]: entry["tensor"] for entry in contexts["prompts"]}
        wanted = [defaults["prompt"]]
        if defaults["cfg_scale"] != 1:
            wanted.append(defaults["negative_prompt"])
        return np.stack([tensors[names[prompt]] for prompt in wanted]).astype(np.float32)

    def square(self, picture: Image.Image) -> np.ndarray:
        """The picture's middle as the cleaner takes it, f32 [1,3,H,W] in [0,1]."""
        edge = self.edge // UPSCALE
        if min(picture.size) < edge:
            factor = edge / min(picture.size)
            size = tuple(max(edge, round(side * factor)) for side in picture.size)
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = ((side - edge) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + edge, top + edge))
        edge = round(self.edge / self.cleaner["scale"])
        if picture.size != (edge, edge):
            picture = picture.resize((edge, edge), Image.Resampling.BICUBIC)
        return np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255

    def hints(self, found: list[Image.Image]) -> list[np.ndarray]:
        """The latents of the cleaned pictures."""
        cleaner = self.load(self.cleaner)
        clean = [cleaner.run(None, {"image": self.square(picture)})[0] for picture in found]
        del cleaner
        encoder = self.load(self.encoder)
        return [encoder.run(None, {"image": np.clip(c, 0, 1) * 2 - 1})[0] for c in clean]

    def run(self, found: list[Image.Image], seed: int = 0) -> tuple[list[list[Arrays]], Any]:
        """The denoiser's inputs, picture by picture and step by step; the sampled latents."""
        hints = self.hints(found)
        rng, model = np.random.default_rng(seed), self.load(self.denoiser)
        results = [self.sample(model, hint, rng) for hint in hints]
        return [inputs for inputs, _ in results], [latent for _, latent in results]

    def predict(self, model: Any, inputs: Arrays) -> np.ndarray:
        """The prediction [1,C,H,W] for one picture, guided by the bundle's defaults."""
        rows = len(self.contexts)
        if not whole(self.denoiser).get("shares_prefix") and rows > 1:
            inputs = {name: np.repeat(array, rows, axis=0) if name in ("x", "timestep", "hint")
                      else array for name, array in inputs.items()}  # fmt: skip
        output = model.run(["output"], inputs)[0]
        if rows == 1:
            return output
        positive, negative = output[:1], output[1:]
        return negative + np.float32(self.document["defaults"]["cfg_scale"]) * (positive - negative)

    def sample(
        self, model: Any, hint: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[Arrays], np.ndarray]:
        """Ancestral sampling on evenly spread timesteps: what went in, and what came out."""
        alphas = alphas_cumprod(self.document["diffusion"])
        times = np.linspace(len(alphas) - 1, 0, self.steps).round().astype(int)
        x, seen = rng.standard_normal(hint.shape).astype(np.float32), []
        for number, t in enumerate(times):
            inputs = {"x": x, "timestep": np.array([t], np.float32), "context": self.contexts,
                      "hint": hint, "strength": np.ones(13, np.float32)}  # fmt: skip
            seen.append(inputs)
            output = self.predict(model, inputs)
            root, rest = alphas[t] ** 0.5, (1 - alphas[t]) ** 0.5
            if self.document["diffusion"]["parameterization"] == "v":
                x0, eps = root * x - rest * output, rest * x + root * output
            else:
                x0, eps = (x - rest * output) / root, output
            if number + 1 == len(times):
                break
            a = alphas[times[number + 1]]
            variance = (1 - a) / (1 - alphas[t]) * (1 - alphas[t] / a)
            noise = rng.standard_normal(x.shape)
            x = a**0.5 * x0 + max(1 - a - variance, 0) ** 0.5 * eps + variance**0.5 * noise
            x = x.astype(np.float32)
        return seen, x0.astype(np.float32)
