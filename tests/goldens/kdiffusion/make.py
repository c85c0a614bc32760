"""k-diffusion's samplers on the denoiser that DiffBIR wraps around a v-prediction network.

k-diffusion 0.1.1.post1 has these samplers line for line as DiffBIR carries them; in particular the
churn samplers draw noise where they do not use it, and the last step draws none but for those.
Schedule: zero terminal SNR, whole timesteps, the first alpha_bar set to 1e-8; a noise level between
two of them takes the nearest one's timestep. Network, f32:
0.35 x - 0.2 c_img + 0.15 sin(t / 100) + 0.5 * 0.75; no guidance.

Per case `I.`: x_T (the sampler starts from x_T sqrt(1 + sigma_0^2)), c_img, noise (every tensor
drawn, in order; of the Brownian path its normalised increments), result. `kdiffusion.json` names
each case's sampler and options and, where the noise is Brownian, seed, range and draws.
Everything is f32, as in the reference: the ancestral steps lose digits there that f64 would keep.
One thing is not k-diffusion's: `ancestral_step`.
"""

import functools
import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

STEPS, SHAPE = 6, (1, 4, 4, 6)
DEFAULTS = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 300.0, "s_noise": 1.0, "eta": 1.0, "order": 1}
CHURN = {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.1}
ETA = {"eta": 0.5, "s_noise": 1.1}
# Name: k-diffusion's function, the options it takes, variations beside the defaults.
SAMPLERS = {
    "edm_euler": ("sample_euler", CHURN.keys(), [CHURN]),
    "edm_euler_a": ("sample_euler_ancestral", ETA.keys(), [ETA, {"eta": 0.0}]),
    "edm_heun": ("sample_heun", CHURN.keys(), [CHURN]),
    "edm_dpm_2": ("sample_dpm_2", CHURN.keys(), [CHURN]),
    "edm_dpm_2_a": ("sample_dpm_2_ancestral", ETA.keys(), [ETA]),
    "edm_lms": ("sample_lms", ["order"], [{"order": n} for n in (2, 3, 4)]),
    "edm_dpm++_2s_a": ("sample_dpmpp_2s_ancestral", ETA.keys(), [ETA]),
    "edm_dpm++_sde": ("sample_dpmpp_sde", ETA.keys(), [ETA]),
    "edm_dpm++_2m": ("sample_dpmpp_2m", [], []),
    "edm_dpm++_2m_sde": ("sample_dpmpp_2m_sde", ETA.keys(), [ETA, {"eta": 0.0}]),
    "edm_dpm++_3m_sde": ("sample_dpmpp_3m_sde", ETA.keys(), [ETA, {"eta": 0.0}]),
}
BROWNIAN = {"edm_dpm++_sde", "edm_dpm++_2m_sde", "edm_dpm++_3m_sde"}


@functools.cache
def load_sampling() -> ModuleType:
    """`k_diffusion.sampling` alone: the package imports its training tools and what they need."""
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    package.utils = utils
    likelihoods = ModuleType("torchdiffeq")
    likelihoods.odeint = None
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils, "torchdiffeq": likelihoods}
    return importlib.import_module("k_diffusion.sampling")


def schedule() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels, descending to 0, and their timesteps."""
    betas = np.linspace(0.00085**0.5, 0.0120**0.5, 1000) ** 2
    root = torch.tensor(1 - betas).cumprod(0).sqrt()
    shifted = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    # Through the betas, as DiffBIR does: equal to the last bit of every noise level.
    alphas_bar = (shifted**2).numpy()
    betas = 1 - np.concatenate([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])
    alphas_cumprod = np.cumprod(1 - betas)
    timesteps = np.linspace(999, 0, STEPS, endpoint=False).astype(int)
    chosen = alphas_cumprod[timesteps]
    chosen[0] = 1e-8
    sigmas = np.append(np.sqrt((1 - chosen) / chosen), 0)
    return torch.tensor(sigmas, dtype=torch.float32), torch.tensor(np.append(timesteps, 0))


def denoiser(c_img: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """x0 from the network's v, in terms of the variance-exploding x."""
    sigmas, timesteps = schedule()

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        t = timesteps[(sigma - sigmas[:, None]).abs().argmin(0)].float().view(-1, 1, 1, 1)
        sigma = sigma.view(-1, 1, 1, 1)
        scale = 1 / (sigma**2 + 1) ** 0.5
        v = 0.35 * (x * scale) - 0.2 * c_img + 0.15 * torch.sin(t / 100) + 0.5 * 0.75
        return v * (-sigma * scale) + x / (sigma**2 + 1)

    return denoise


def ancestral_step(
    sigma_from: torch.Tensor, sigma_to: torch.Tensor, eta: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """`get_ancestral_step` with IEEE's square root; torch's is MKL's.

    That is an ulp off on some processors, and in the first step cancellation makes a tenth of
    sigma_down of it.
    """
    a, b = sigma_from.numpy(), sigma_to.numpy()
    up = min(b, np.float32(eta) * np.sqrt(b**2 * (a**2 - b**2) / a**2))
    return torch.tensor(np.sqrt(b**2 - up**2)), torch.tensor(up)


def brownian(x: torch.Tensor, case: dict, noise: list) -> Callable:
    """k-diffusion's Brownian noise from a known seed; notes every draw."""
    sigmas, _ = schedule()
    low, high = sigmas[sigmas > 0].min(), sigmas.max()
    sampler = load_sampling().BrownianTreeNoiseSampler(x, low, high, seed=case["seed"])
    case["brownian"] = {"sigma_min": low.item(), "sigma_max": high.item(), "draws": []}

    def draw(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        noise.append(sampler(sigma, sigma_next))
        case["brownian"]["draws"].append([sigma.item(), sigma_next.item()])
        return noise[-1]

    return draw


def run(case: dict) -> dict[str, np.ndarray]:
    """One trajectory's arrays."""
    function, parameters, _ = SAMPLERS[case["sampler"]]
    torch.manual_seed(case["seed"])
    x_T, c_img, noise = torch.randn(SHAPE), torch.randn(SHAPE), []
    x = x_T * torch.sqrt(1 + schedule()[0][0] ** 2)
    options = {name: case["options"][name] for name in parameters}
    if case["sampler"] in BROWNIAN:
        options["noise_sampler"] = brownian(x, case, noise)
    randn_like = torch.randn_like

    def recorded(like: torch.Tensor) -> torch.Tensor:
        noise.append(randn_like(like))
        return noise[-1]

    sampling = load_sampling()
    step = mock.patch.object(sampling, "get_ancestral_step", ancestral_step)
    with step, mock.patch.object(torch, "randn_like", recorded):
        solve = getattr(sampling, function)
        result = solve(denoiser(c_img), x, schedule()[0], disable=True, **options)
    drawn = torch.stack(noise) if noise else torch.empty(0, *SHAPE)
    return {"x_T": x_T.numpy(), "c_img": c_img.numpy(), "noise": drawn.numpy(),
            "result": result.numpy()}  # fmt: skip


def cases() -> list[dict]:
    """Every sampler with the defaults, then with each variation."""
    listed = []
    for sampler, (_, _, variations) in SAMPLERS.items():
        for options in [{}, *variations]:
            case = {"prefix": f"{len(listed)}.", "sampler": sampler, "steps": STEPS}
            listed.append(case | {"seed": 300 + len(listed), "options": DEFAULTS | options})
    return listed


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # rounding puts the first draw outside of the path's range
    arrays, listed = {}, cases()
    for case in listed:
        arrays |= {case["prefix"] + name: value for name, value in run(case).items()}
    write(__file__, arrays, ["torch", "k-diffusion", "torchsde", "scipy"], seeds="300 + case")
    text = ",\n".join(json.dumps(case) for case in listed)
    Path(__file__).with_name("kdiffusion.json").write_text(f"[\n{text}\n]\n")


main()
