"""Trajectories of diffusers' DDPMScheduler on custom timesteps: the spaced sampler by another hand.

The model is linear, `0.35 * x - 0.2 * c + 0.1`, with uncond output half of that. diffusers computes in f64 here, from
f64 schedules, so differences are ours.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

SHAPE = (2, 4, 3, 5)
CASES = [("eps", 2, 1.0), ("eps", 10, 4.0), ("v", 3, 1.0), ("v", 10, 4.0), ("v", 50, 7.5)]


def scheduler(parameterization: str, steps: int) -> DDPMScheduler:
    zsnr = parameterization == "v"
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    ddpm = DDPMScheduler(
        prediction_type="v_prediction" if zsnr else "epsilon",
        variance_type="fixed_small",
        clip_sample=False,
    )
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    if zsnr:
        root = alphas_cumprod.sqrt()
        alphas_cumprod = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    ddpm.alphas_cumprod, ddpm.one = alphas_cumprod, torch.tensor(1.0, dtype=torch.float64)
    ddpm.set_timesteps(timesteps=[round(i * 999 / (steps - 1)) for i in range(steps)][::-1])
    return ddpm


def main() -> None:
    arrays = {}
    for i, (parameterization, steps, scale) in enumerate(CASES):
        ddpm = scheduler(parameterization, steps)
        generator = torch.Generator().manual_seed(100 + i)
        x, c = torch.randn((2, *SHAPE), generator=generator)
        noise = torch.randn((steps, *SHAPE), generator=generator)
        arrays |= {f"{i}.x_T": x.numpy(), f"{i}.c": c.numpy(), f"{i}.noise": noise.numpy()}
        x, c = x.double(), c.double()
        trajectory = []
        for step, t in enumerate(ddpm.timesteps):
            cond = 0.35 * x - 0.2 * c + 0.1
            output = 0.5 * cond + scale * (cond - 0.5 * cond)
            with mock.patch.object(scheduling_ddpm, "randn_tensor", return_value=noise[step].double()):
                x = ddpm.step(output, t, x).prev_sample
            trajectory.append(x.float().numpy())
        arrays[f"{i}.trajectory"] = np.stack(trajectory)
        arrays[f"{i}.scale"] = np.array([scale])
        arrays[f"{i}.v"] = np.array([parameterization == "v"], dtype=np.uint8)
    write(__file__, arrays, ["torch", "diffusers"], seeds="100 + case")


main()
