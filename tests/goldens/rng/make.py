"""Draws from torch's CPU generator.

Made on x86-64 with AVX2: torch's scalar build differs in the last bits of `randn` from 16 values up.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

SEEDS = [0, 1, 231, 2**31 - 1, 2**32 + 231, 2**64 - 1]
SIZES = [1, 2, 15, 16, 17, 31, 32, 33, 100]


def main() -> None:
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    arrays = {}
    for seed in SEEDS:
        arrays |= {f"{seed}.{name}": value.numpy() for name, value in draws(seed)}
    write(__file__, arrays, ["torch"], cpu_capability="AVX2 or AVX512")


def draws(seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    for n in SIZES:
        for draw in (torch.rand, torch.randn):
            torch.manual_seed(seed)
            yield (f"{draw.__name__}.{n}", draw(n))
    # One sequence: the second normal of a pair survives whole-block draws in between.
    torch.manual_seed(seed)
    for i, (draw, n) in enumerate([("randn", 5), ("rand", 3), ("randn", 48), ("randn", 2), ("randn", 40)]):
        yield (f"sequence.{i}.{draw}.{n}", getattr(torch, draw)(n))
    torch.manual_seed(seed)
    yield ("latent", torch.randn(1, 4, 24, 20))
    torch.manual_seed(seed)
    yield ("randint63", torch.stack([torch.randint(0, 2**63 - 1, []) for _ in range(8)]))
    for n in (7, 16, 37):
        torch.manual_seed(seed)
        yield (f"randn_f64.{n}", torch.randn(n, dtype=torch.float64))


main()
