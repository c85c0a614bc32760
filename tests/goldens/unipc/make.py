"""Results of diffusers' UniPCMultistepScheduler on the analytic model of the sampler tests.

The model is `0.35 * x - 0.2 * c_img + 0.15 * sin(t / 100) + 0.375`. Step counts divide 999, so that evenly spaced times
fall on training timesteps, where both define the noise level the same way; both end at timestep 0.
"""

import sys
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

SHAPE = (1, 4, 3, 5)
CASES = [(order, steps) for order in (2, 3) for steps in (9, 27, 37)]


def run(order: int, steps: int, x: torch.Tensor, c_img: torch.Tensor) -> torch.Tensor:
    scheduler = UniPCMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        solver_order=order,
        solver_type="bh2",
        prediction_type="epsilon",
        predict_x0=True,
        lower_order_final=True,
        timestep_spacing="linspace",
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        eps = 0.35 * x - 0.2 * c_img + 0.15 * torch.sin(t / 100) + 0.375
        x = scheduler.step(eps, t, x).prev_sample
    return x


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    arrays = {}
    for order, steps in CASES:
        x, c_img = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
        result = run(order, steps, x, c_img)
        name = f"{order}.{steps}"
        for key, array in (("x_T", x), ("c_img", c_img), ("result", result)):
            arrays[f"{name}.{key}"] = array.float().numpy()
    write(__file__, arrays, ["torch", "diffusers"])


if __name__ == "__main__":
    main()
