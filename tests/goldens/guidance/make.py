"""Losses of restoration guidance and their gradients by torch's autograd, in f64.

loss = sum over the batch of mean over c, h, w of weight * (pred - target)^2; `gradient` is
dloss/dpred without any scale. `mse` has weight 1. `w_mse` is for RGB in [-1, 1]: of the target in
[0, 1] the grey value (0.2989, 0.5870, 0.1140), its Sobel magnitude with edges repeated, summed over
blocks of 2x2, and weight = 1 - tanh of that, so that edges count less. Inputs are stored as f32.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

CASES = {
    "rgb.mse": (2, 3, 16, 24),
    "rgb.w_mse": (2, 3, 16, 24),
    "latent.mse": (2, 4, 5, 7),
    "latent_even.mse": (1, 4, 6, 8),
}
SOBEL = [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]


def weight_of(target: torch.Tensor) -> torch.Tensor:
    """[N,1,H,W] of a target in [-1, 1]; H and W are even."""
    luma = torch.tensor([0.2989, 0.5870, 0.1140], dtype=target.dtype).view(1, 3, 1, 1)
    grey = F.pad(((target + 1) / 2 * luma).sum(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor(SOBEL, dtype=target.dtype)
    magnitude = F.conv2d(grey, torch.stack([across, across.T])[:, None]).norm(dim=1, keepdim=True)
    blocks = 4 * F.avg_pool2d(magnitude, 2)
    return F.interpolate(1 - blocks.tanh(), scale_factor=2, mode="nearest")


def target_like(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Smooth, with an edge and a little noise, so that weights from 0 to 1 occur."""
    y, x = torch.meshgrid(torch.linspace(0, 1, shape[2]), torch.linspace(0, 1, shape[3]),
                          indexing="ij")  # fmt: skip
    picture = 0.3 * torch.cos(2 * x + 3 * y) + 0.6 * (x > 0.7)
    return picture - 0.2 + 0.01 * torch.randn(shape, generator=generator)


def main() -> None:
    torch.set_num_threads(1)
    arrays = {}
    for i, (name, shape) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(400 + i)
        target = target_like(shape, generator)
        pred = target + 0.2 * torch.randn(shape, generator=generator)
        moved = pred.double().requires_grad_(True)
        weighted = name.endswith("w_mse")
        weight = weight_of(target.double()) if weighted else torch.ones(1, dtype=torch.float64)
        loss = (weight * (moved - target.double()).square()).mean((1, 2, 3)).sum()
        [gradient] = torch.autograd.grad(loss, moved)
        found = {"target": target, "pred": pred, "gradient": gradient.float(),
                 "loss": loss.detach().reshape(1)}  # fmt: skip
        if weighted:
            found["weight"] = weight.float()
        arrays |= {f"{name}.{key}": np.asarray(value) for key, value in found.items()}
    write(__file__, arrays, ["torch"], seeds="400 + case")


main()
