"""Increments of torchsde's BrownianTree, with times, entropy and scaling as k-diffusion's samplers have them.

Made on x86-64 with AVX2: torch's scalar build differs in the last bits of `randn` from 16 values up.
"""

import math
import sys
from itertools import product
from pathlib import Path

import torch
from torchsde import BrownianTree

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

SHAPES = [(1, 1, 2, 3), (1, 4, 3, 5), (2, 4, 4, 4)]
GRIDS = [
    [10000, 5.4, 1.77, 0.727],
    [14.6146, 6.0, 2.5, 1.1, 0.5, 0.0291675],
    # Bounds of seven decimals, which the tree rounds, two of them half way between.
    [2.0, 1.0078125, 0.5234375, 0.1234567],
]


def queries(grid: list[float]) -> torch.Tensor:
    """Steps down in order, up in mixed order, and with a middle as DPM-Solver++ SDE takes it."""
    sigma = torch.tensor(grid)
    steps = torch.stack([sigma[:-1], sigma[1:]], 1)
    up = steps.flip(1)[torch.randperm(len(steps), generator=torch.Generator().manual_seed(0))]
    # From logarithms and back: the ends may lie outside of the range by a rounding error.
    t = steps.log().neg()
    start, middle, end = (x.neg().exp() for x in (t[:, 0], t[:, 0] + (t[:, 1] - t[:, 0]) / 2, t[:, 1]))
    sde = torch.stack([torch.stack([start, middle], 1), torch.stack([start, end], 1)], 1).flatten(0, 1)
    return torch.cat([steps, up, sde])


def increment(tree: BrownianTree, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    w = tree(start, end) if start < end else -tree(end, start)
    # Not torch's own square root, as k-diffusion has it: on a CPU that is MKL's, off by one unit for a sixth of all
    # arguments. On a GPU it is rounded correctly, as here.
    return w / math.sqrt((end - start).abs())


def main() -> None:
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    arrays = {}
    for case, (shape, grid) in enumerate(2 * list(product(SHAPES, GRIDS))):
        seed = 231 * case
        torch.manual_seed(seed)
        entropy = torch.randint(0, 2**63 - 1, []).item()
        low, high = torch.tensor(grid).aminmax()
        tree = BrownianTree(low, torch.zeros(shape), high, entropy=entropy)
        times = queries(grid)
        values = {
            "seed": torch.tensor([seed]),
            "range": torch.stack([low, high]),
            "times": times,
            "increments": torch.stack([increment(tree, *query) for query in times]),
        }
        arrays |= {f"{case}.{name}": value.numpy() for name, value in values.items()}
    write(__file__, arrays, ["torch", "torchsde", "trampoline"], cpu_capability="AVX2 or AVX512")


main()
