"""Muon for matrices and kernels, AdamW for everything else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, from the Muon article."""
ITERATIONS = 5
ADAM_LIKE = 0.2
"""Root mean square of an AdamW update in practice (Liu et al., arXiv 2502.16982)."""
SMALLEST = 8
"""Narrower matrices, such as those at the picture's three channels, are AdamW's."""


def orthogonal(matrices: Tensor) -> Tensor:
    """[K,m,n], m <= n: the nearest ones whose singular values are near 1, by Newton-Schulz."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def is_matrix(weight: Tensor) -> bool:
    """Whether Muon takes it: a kernel [out,in,h,w] counts as the matrix [out,in*h*w]."""
    return weight.ndim >= 2 and min(len(weight), weight[0].numel()) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, scaled so that AdamW's rates fit.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scale is arXiv 2502.16982's.
    Vectors and narrow matrices are AdamW's. torch's own Muon takes nothing but matrices, and these
    networks are mostly kernels.
    """

    def __init__(self, module: nn.Module, momentum: float = 0.95, decay: float = 1e-2) -> None:
        weights = [p for p in module.parameters() if p.requires_grad]
        groups = [{"params": [p for p in weights if is_matrix(p)]},
                  {"params": [p for p in weights if not is_matrix(p)]}]  # fmt: skip
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "decay": decay,
                                  "betas": (0.9, 0.99), "eps": 1e-8})  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every weight that has a gradient."""
        del closure
        matrices, others = self.param_groups
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        for weight in matrices["params"]:
            if weight.grad is not None:
                wide = self.ahead(weight, matrices["momentum"])
                by_shape.setdefault(tuple(wide.shape), []).append((weight, wide))
        for found in by_shape.values():
            steps = orthogonal(torch.stack([wide for _, wide in found]))
            for (weight, _), step in zip(found, steps, strict=True):
                self.move(weight, step, matrices)
        for weight in others["params"]:
            if weight.grad is not None:
                self.adam(weight, others, self.state[weight])

    def ahead(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum as a matrix that is not taller than wide."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - momentum)
        matrix = weight.grad.lerp(state["momentum"], momentum).reshape(len(weight), -1)
        return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix

    def move(self, weight: nn.Parameter, step: Tensor, group: dict[str, Any]) -> None:
        """Takes an orthogonal step; decay is decoupled."""
        rows, columns = len(weight), weight[0].numel()
        step = (step.T if rows > columns else step).reshape(weight.shape)
        scale = ADAM_LIKE * math.sqrt(max(rows, columns))
        weight.mul_(1 - group["lr"] * group["decay"]).add_(step, alpha=-group["lr"] * scale)

    def adam(self, weight: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Adam without decay."""
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight),
                         square=torch.zeros_like(weight))  # fmt: skip
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(weight.grad, 1 - first)
        state["square"].lerp_(weight.grad.square(), 1 - second)
        count = float(state["step"])
        root = (state["square"] / (1 - second**count)).sqrt_().add_(group["eps"])
        weight.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - first**count))
