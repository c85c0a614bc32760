"""Sizes and whole runs of the reference's pipeline on networks that compute something simple.

    python make.py REFERENCE OLD

REFERENCE and OLD are checkouts of https://github.com/XPixelGroup/DiffBIR at 3f8b530 and 86bf0f8.
Their pipeline and samplers run as they are; the modules of networks that they import are empty.
The networks are those of tests/common/fakes.rs: a cleaner that repeats pixels, a VAE that takes
the corner of each 8x8 block and repeats it back, a denoiser of 0.1 * x + 0.2 * c_img.

sizes.json, heights and widths, -1 where the reference ends with an error:
  cleaner: [cleaner, 100 * upscale, tile or 0, lq, cleaner's first input, condition, result]
  cldm: [condition, denoiser's tile or 0, encoder's tile or 0, encoder's input, denoiser's latent,
         decoder's latent, number of denoiser calls in a step]
pipeline.safetensors: `NAME.KEY` of the runs in RUNS, and `v1.window.*`, latent guidance of v1
outside of its window; `.sub` is every 16th row and column of a picture, every 5th of a latent.
"""

import ast
import importlib
import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

REFERENCE, OLD = map(Path, sys.argv[1:3])
SEED, STEPS = 231, 3
SCALES = {"swinir": 1, "bsrnet": 4, "scunet": 1}
NO_TILES = {"cldm": 0, "encoder": 0, "cleaner": 0}
RUNS = {  # cleaner, lq's height and width, upscale, tiles
    "bsrnet_down": ("bsrnet", (130, 150), 2.0, {}),
    "bsrnet_up": ("bsrnet", (90, 70), 4.0, {}),
    "bsrnet_tiled": ("bsrnet", (130, 150), 4.5, {"cleaner": 128}),
    "swinir_tiled": ("swinir", (300, 280), 1.5, {"cleaner": 256}),
    "scunet_small_tile": ("scunet", (200, 150), 1.5, {"cldm": 1024}),
    "swinir_encoder_tile": ("swinir", (130, 150), 4.0, {"encoder": 1024}),
    "swinir_plain": ("swinir", (130, 150), 4.0, {}),
}
EDGES = (33, 64, 100, 127, 128, 129, 255, 256, 257, 511, 512, 513, 640)
CONDITIONS = (512, 513, 519, 520, 521, 575, 576, 577, 600, 1023, 1024, 1032)


def module(name: str, folder: Path | None = None, **names: object) -> types.ModuleType:
    """A module that stands for one of the reference's; a package if its files are wanted."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    if folder is not None:
        made.__path__ = [str(folder)]
    sys.modules[name] = made
    return made


def reference() -> tuple[types.ModuleType, types.ModuleType]:
    """The modules pipeline and gaussian_diffusion at 3f8b530."""
    torch.cuda.max_memory_allocated, torch.cuda.synchronize = lambda: 0, lambda: None
    root = REFERENCE / "diffbir"
    module("diffbir", root)
    module("diffbir.utils", root / "utils")
    module("diffbir.model", root / "model", ControlLDM=None, Diffusion=None, RRDBNet=None)
    module("diffbir.model.cldm", ControlLDM=None)
    module("diffbir.sampler", root / "sampler", DDIMSampler=None, DPMSolverSampler=None,
           EDMSampler=None)  # fmt: skip
    sampler = importlib.import_module("diffbir.sampler.spaced_sampler")
    sys.modules["diffbir.sampler"].SpacedSampler = sampler.SpacedSampler
    return (importlib.import_module("diffbir.pipeline"),
            importlib.import_module("diffbir.model.gaussian_diffusion"))  # fmt: skip


def encode(image: torch.Tensor) -> torch.Tensor:
    corner = image[..., ::8, ::8]
    return torch.cat([corner, (corner[:, :1] + corner[:, 1:2] + corner[:, 2:]) / 3], dim=1)


class Cldm(nn.Module):
    """ControlLDM on the fakes; remembers the sizes it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.control_scales, self.seen = [1.0] * 13, {}

    def prepare_condition(self, image, txt, tiled, size):
        self.seen |= {"encoder": image.shape[2:], "c_img": encode(image * 2 - 1)}
        return {"c_img": self.seen["c_img"], "c_txt": None}

    def forward(self, x, t, cond):
        self.seen["calls"] = self.seen.get("calls", 0) + 1
        return 0.1 * x + 0.2 * cond["c_img"]

    def vae_decode(self, z, tiled, size):
        self.seen["z"] = z
        return repeat(z[:, :3], 8)


def repeat(x: torch.Tensor, scale: int) -> torch.Tensor:
    return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def pipeline_of(code, diffusion, cleaner: str, upscale: float, device: str = "cpu"):
    """The reference's pipeline of a cleaner, and the cleaner's inputs."""
    inputs, cldm = [], Cldm()

    def clean(image):
        inputs.append(image.shape[2:])
        return repeat(image, SCALES[cleaner])

    made = {"swinir": code.SwinIRPipeline, "bsrnet": code.BSRNetPipeline,
            "scunet": code.SCUNetPipeline}[cleaner]  # fmt: skip
    more = (upscale,) if cleaner == "bsrnet" else ()
    return made(clean, cldm, diffusion, None, device, *more), inputs


def lq_of(height: int, width: int) -> np.ndarray:
    y, x, c = np.ogrid[:height, :width, :3]
    return ((y * 7 + x * 3 + c * 50) % 256).astype(np.uint8)


def enlarged(lq: np.ndarray, cleaner: str, upscale: float) -> np.ndarray:
    """`after_load_lq` of diffbir/inference's loops."""
    if cleaner == "bsrnet":
        return lq
    height, width = lq.shape[:2]
    size = tuple(int(x * upscale) for x in (width, height))
    return np.array(Image.fromarray(lq).resize(size, Image.BICUBIC))


def stage_two(tiles: dict[str, int], steps: int) -> tuple:
    """`apply_cldm`'s arguments behind the picture."""
    cldm, encoder = tiles["cldm"], tiles["encoder"]
    return (steps, 1.0, encoder > 0, encoder, False, 0, cldm > 0, cldm, cldm // 2, "", "", 1.0,
            "noise", "spaced", 0, False, 0, 0, 0, 1, 1, 1)  # fmt: skip


def run(code, diffusion, cleaner: str, size: tuple[int, int], upscale: float, tiles: dict) -> dict:
    """One whole run; what is compared of it."""
    tiles = NO_TILES | tiles
    pipeline, _ = pipeline_of(code, diffusion, cleaner, upscale)
    lq, tile, kept = enlarged(lq_of(*size), cleaner, upscale), tiles["cleaner"], {}
    steps, strength, *rest = stage_two(tiles, STEPS)
    apply = pipeline.apply_cleaner
    pipeline.apply_cleaner = lambda *args: kept.setdefault("stage1", apply(*args))
    torch.manual_seed(SEED)
    result = pipeline.run(lq[None], steps, strength, tile > 0, tile, tile // 2, *rest)
    seen = pipeline.cldm.seen
    kept = {"stage1.sub": kept["stage1"][..., ::16, ::16].contiguous(),
            "c_img.sub": seen["c_img"][..., ::5, ::5].contiguous(),
            "z.sub": seen["z"][..., ::5, ::5].contiguous()}  # fmt: skip
    return {key: x.numpy() for key, x in kept.items()} | {"result.sub": result[0, ::16, ::16]}


def shape_of(pair) -> list[int]:
    return [int(x) for x in pair]


def cleaner_row(code, cleaner: str, upscale: float, tile: int, size: tuple[int, int]) -> list:
    """A row of sizes.json's `cleaner`, on tensors without values."""
    pipeline, inputs = pipeline_of(code, None, cleaner, upscale, "meta")
    height, width = size if cleaner == "bsrnet" else (int(x * upscale) for x in size)
    lq = torch.empty((1, 3, height, width), device="meta")
    pipeline.set_output_size(lq.shape)
    cond = pipeline.apply_cleaner(lq, tile > 0, tile, tile // 2).shape[2:]
    row = [cleaner, round(100 * upscale), tile, *size, *inputs[0], *cond, *pipeline.output_size]
    return [*row[:1], *shape_of(row[1:])]


def cldm_row(code, diffusion, size: tuple[int, int], cldm: int, encoder: int) -> list[int]:
    """A row of sizes.json's `cldm`."""
    pipeline, _ = pipeline_of(code, diffusion, "swinir", 1.0)
    tiles = NO_TILES | {"cldm": cldm, "encoder": encoder}
    pipeline.apply_cldm(torch.zeros((1, 3, *size)), *stage_two(tiles, 2))
    seen = pipeline.cldm.seen
    # The latent that is sampled is not shown; its size is the one that untiled calls see.
    multiple = 8 if seen["calls"] == 2 else 1
    sampled = [-(-length // multiple) * multiple for length in seen["c_img"].shape[2:]]
    return shape_of([*size, cldm, encoder, *seen["encoder"], *sampled, *seen["z"].shape[2:],
                     seen["calls"] // 2])  # fmt: skip


def sizes(code, diffusion) -> dict[str, list]:
    # Not beyond an aspect ratio of 8, which is not the reference's.
    pairs = [pair for pair in itertools.product(EDGES, EDGES) if max(pair) < 8 * min(pair)]
    scales = itertools.product(SCALES, (0.5, 1.0, 2.0, 2.3, 4.0), (0, 256))
    cleaner = [cleaner_row(code, *case, pair)
               for i, case in enumerate(scales) for pair in pairs[i % 5 :: 5]]  # fmt: skip
    tiles = ((0, 0), (512, 0), (1024, 0), (0, 512), (0, 1024), (1024, 1024))
    square = [(a, b) for i, a in enumerate(CONDITIONS) for b in CONDITIONS[i % 2 :: 2]]
    cldm = [cldm_row(code, diffusion, pair, *tile) for tile in tiles for pair in square]
    return {"cleaner": cleaner, "cldm": cldm}


class OldModel:
    """ControlLDM at 86bf0f8 on the fakes; its posterior is drawn, but has no spread."""

    num_timesteps, linear_start, linear_end, parameterization = 1000, 0.00085, 0.012, "eps"
    betas = torch.zeros(1)

    def apply_model(self, x, t, c):
        return 0.1 * x + 0.2 * c

    def encode_first_stage(self, image):
        return encode(image)

    def get_first_stage_encoding(self, mean):
        return mean + 0 * torch.randn(mean.shape)


def old_sampler() -> tuple[type, type]:
    """SpacedSampler and MSEGuidance at 86bf0f8."""
    util = (OLD / "ldm/modules/diffusionmodules/util.py").read_text()
    functions = [node for node in ast.parse(util).body if isinstance(node, ast.FunctionDef)]
    wanted = [node for node in functions if node.name == "make_beta_schedule"]
    names = {"torch": torch, "np": np}
    exec(compile(ast.Module(wanted, []), "util.py", "exec"), names)
    for name in ("ldm", "ldm.modules", "ldm.modules.diffusionmodules"):
        module(name, OLD)
    module("ldm.modules.diffusionmodules.util", make_beta_schedule=names["make_beta_schedule"])
    module("model", OLD / "model")
    return (importlib.import_module("model.spaced_sampler").SpacedSampler,
            importlib.import_module("model.cond_fn").MSEGuidance)  # fmt: skip


def old_run(start: int, stop: int) -> dict[str, np.ndarray]:
    """v1's latent guidance of a picture of 64x64 in the window (stop, start)."""
    sampler, guidance = old_sampler()
    image = torch.tensor(lq_of(64, 64)).float().div(255).permute(2, 0, 1)[None]
    cond_fn = guidance(5.0, start, stop, "latent", 2)
    cond_fn.load_target(image * 2 - 1)
    c_img = encode(image * 2 - 1)
    torch.manual_seed(SEED)
    x_t = torch.randn(c_img.shape)
    z = sampler(OldModel()).sample(5, c_img.shape, c_img, x_T=x_t, cond_fn=cond_fn)
    return {"x_T": x_t.numpy(), "z": z.numpy()}


def main() -> None:
    torch.set_num_threads(1)
    code, model = reference()
    diffusion = model.Diffusion(linear_start=0.00085, linear_end=0.012, timesteps=1000)
    arrays = {}
    for name, case in RUNS.items():
        arrays |= {f"{name}.{key}": x for key, x in run(code, diffusion, *case).items()}
    arrays |= {f"v1.window.{key}": x for key, x in old_run(700, 200).items()}
    rows = sizes(code, diffusion)
    lines = (
        f'"{key}": [\n' + ",\n".join(map(json.dumps, row)) + "\n]" for key, row in rows.items()
    )
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    Path(__file__).with_name("sizes.json").write_text(text)
    write(__file__, arrays, ["torch", "pillow"], seed=SEED, reference=["3f8b530", "86bf0f8"])


main()
