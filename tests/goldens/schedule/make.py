"""Noise schedules, computed with 60 digits from the papers' formulas and rounded to f64.

linear: sqrt(beta) evenly spaced from sqrt(0.00085) to sqrt(0.0120), 1000 of them (Stable Diffusion).
zsnr: the same with zero terminal SNR (Lin et al., arXiv 2305.08891, algorithm 1).
spaced: DDPM's posterior (Ho et al., arXiv 2006.11239, equation 7) on n evenly spaced timesteps.
"""

import sys
from pathlib import Path

import numpy as np
from mpmath import mp, mpf, sqrt

sys.path.append(str(Path(__file__).resolve().parents[1]))
from write import write

TOTAL = 1000
STEPS = [2, 3, 4, 7, 10, 27, 50, 250, 1000]
mp.dps = 60


def alphas_cumprod(zero_snr: bool) -> list[mpf]:
    # The constants are the f64 next to the decimal numbers, as in every program.
    start, end = sqrt(mpf(0.00085)), sqrt(mpf(0.0120))
    betas = [(start + (end - start) * i / (TOTAL - 1)) ** 2 for i in range(TOTAL)]
    product, products = mpf(1), []
    for beta in betas:
        product *= 1 - beta
        products.append(product)
    if zero_snr:
        first, last = sqrt(products[0]), sqrt(products[-1])
        products = [((sqrt(a) - last) * first / (first - last)) ** 2 for a in products]
    return products


def timesteps(n: int) -> list[int]:
    """Evenly spaced, the position summed up in f64 and rounded half to even."""
    position, result = 0.0, []
    for _ in range(n):
        result.append(round(position))
        position += (TOTAL - 1) / (n - 1)
    return result


def posterior(alphas: list[mpf]) -> dict[str, list[mpf]]:
    rows = {"posterior_variance": [], "posterior_mean_coef1": [], "posterior_mean_coef2": []}
    previous = mpf(1)
    for alpha in alphas:
        beta = 1 - alpha / previous
        rows["posterior_variance"].append(beta * (1 - previous) / (1 - alpha))
        rows["posterior_mean_coef1"].append(beta * sqrt(previous) / (1 - alpha))
        rows["posterior_mean_coef2"].append((1 - previous) * sqrt(1 - beta) / (1 - alpha))
        previous = alpha
    return rows


def main() -> None:
    arrays = {}

    def put(name: str, values: list[mpf]) -> None:
        arrays[name] = np.array([float(v) for v in values])

    for name, zero_snr in [("linear", False), ("zsnr", True)]:
        alphas = alphas_cumprod(zero_snr)
        put(f"{name}.alphas_cumprod", alphas)
        put(f"{name}.betas", [1 - a / b for a, b in zip(alphas, [mpf(1), *alphas])])
        for n in STEPS:
            arrays[f"timesteps.{n}"] = np.array(timesteps(n))
            for key, values in posterior([alphas[t] for t in timesteps(n)]).items():
                put(f"{name}.{n}.{key}", values)
    write(__file__, arrays, ["mpmath"])


main()
