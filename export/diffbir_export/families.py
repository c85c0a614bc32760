"""What a family is: which cleaner serves which task, and the published commands' defaults."""

from __future__ import annotations

from dataclasses import dataclass

from .config import DiffusionConfig

TASKS = ("sr", "face", "denoise")

POSITIVE = (
    "Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed "
    "photo - realistic maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing, "
    "skin pore detailing, hyper sharpness, perfect without deformations."
)
NEGATIVE = (
    "painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, "
    "3D render, unreal engine, blurring, dirty, messy, worst quality, low quality, frames, "
    "watermark, signature, jpeg artifacts, deformed, lowres, over-smooth."
)
NEGATIVE_V2 = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"


@dataclass(frozen=True)
class Defaults:
    """Options that a run of the bundle starts from."""

    sampler: str
    steps: int
    cfg_scale: float
    prompt: str
    negative_prompt: str


@dataclass(frozen=True)
class Family:
    """One published generation of DiffBIR."""

    cleaners: dict[str, str]
    defaults: Defaults


SWINIR_FOR_ALL = dict.fromkeys(TASKS, "swinir")
V1 = Defaults("spaced", 50, 1.0, "", "")
V2 = Defaults("spaced", 50, 4.0, "", NEGATIVE_V2)
V21 = Defaults("edm_dpm++_3m_sde", 10, 8.0, POSITIVE, NEGATIVE)

FAMILIES = {
    "v1": Family(SWINIR_FOR_ALL, V1),
    "v2": Family({"sr": "bsrnet", "face": "swinir", "denoise": "scunet"}, V2),
    "v2.1": Family(SWINIR_FOR_ALL, V21),
    "custom": Family(SWINIR_FOR_ALL, V1),
}


def defaults(family: str, diffusion: DiffusionConfig) -> Defaults:
    """The family's defaults; a custom one takes after the family with its kind of schedule."""
    if family == "custom" and diffusion.zero_snr and diffusion.parameterization == "v":
        return V21
    return FAMILIES[family].defaults


def prompts(options: Defaults) -> dict[str, str]:
    """Tensor name -> prompt, for the contexts that are computed beforehand."""
    result = {"empty": ""}
    if options.prompt:
        result["positive"] = options.prompt
    if options.negative_prompt:
        result["negative"] = options.negative_prompt
    return result
