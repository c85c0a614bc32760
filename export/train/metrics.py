"""Full-reference measures of restored pictures, in numpy. Pictures are u8 [H,W,3]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BAND = (0.125, 0.5)
"""The high-frequency band in cycles per pixel, fixed before training: what a quarter-size picture
cannot hold."""
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
GMSD_C = 170.0
LUMA = (0.299, 0.587, 0.114)


def luma(picture: np.ndarray) -> np.ndarray:
    """Rec. 601 luma, f64 [H,W], 0 to 255."""
    return picture.astype(np.float64) @ np.array(LUMA)


def psnr(found: np.ndarray, truth: np.ndarray) -> float:
    """Decibels over all channels."""
    error = np.mean((found.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def window(values: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Separable filter [H,W], only where it fits."""
    view = np.lib.stride_tricks.sliding_window_view
    return view(view(values, len(taps), 0) @ taps, len(taps), 1) @ taps


def gaussian_taps() -> np.ndarray:
    """SSIM's window: 11 taps, standard deviation 1.5."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    return taps / taps.sum()


def ssim_parts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean SSIM and mean of its contrast and structure factor."""
    taps = gaussian_taps()
    ma, mb = window(a, taps), window(b, taps)
    va, vb = window(a * a, taps) - ma**2, window(b * b, taps) - mb**2
    cov = window(a * b, taps) - ma * mb
    cs = (2 * cov + C2) / (va + vb + C2)
    return float(np.mean(cs * (2 * ma * mb + C1) / (ma**2 + mb**2 + C1))), float(np.mean(cs))


def halve(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels."""
    h, w = (side // 2 * 2 for side in values.shape)
    return values[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))


def ms_ssim(found: np.ndarray, truth: np.ndarray) -> float:
    """Wang et al. 2003 on luma; the short side is at least 176."""
    a, b = luma(found), luma(truth)
    result = 1.0
    for level, weight in enumerate(WEIGHTS):
        whole, cs = ssim_parts(a, b)
        last = level == len(WEIGHTS) - 1
        result *= max(whole if last else cs, 1e-6) ** weight
        a, b = halve(a), halve(b)
    return result


def prewitt(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal and vertical gradient, a third of Prewitt's sums."""
    rows = values[:, 2:] - values[:, :-2]
    columns = values[2:] - values[:-2]
    x = (rows[:-2] + rows[1:-1] + rows[2:]) / 3
    y = (columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:]) / 3
    return x, y


def gmsd(found: np.ndarray, truth: np.ndarray) -> float:
    """Gradient magnitude similarity deviation (Xue et al. 2014); 0 is best."""
    a, b = (np.hypot(*prewitt(halve(luma(p)))) for p in (found, truth))
    return float(np.std((2 * a * b + GMSD_C) / (a**2 + b**2 + GMSD_C)))


def gradient_correlation(found: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of the two gradient fields at full resolution; 1 is best."""
    a, b = (np.stack(prewitt(luma(p))) for p in (found, truth))
    norm = np.sqrt(np.sum(a**2) * np.sum(b**2))
    return float(np.sum(a * b) / max(norm, 1e-12))


def band_mask(shape: tuple[int, int]) -> np.ndarray:
    """Which coefficients of rfft2 lie in the band."""
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    radius = np.hypot(y, x)
    return (radius >= BAND[0]) & (radius < BAND[1])


def high_energy(picture: np.ndarray) -> float:
    """Energy of the band in luma, per pixel; a window keeps the borders out."""
    values = luma(picture)
    fade = np.hanning(values.shape[0])[:, None] * np.hanning(values.shape[1])[None]
    spectrum = np.fft.rfft2((values - values.mean()) * fade)
    return float(np.sum(np.abs(spectrum[band_mask(values.shape)]) ** 2) / values.size)


def high_ratio(found: np.ndarray, truth: np.ndarray) -> float:
    """Energy of the band over the truth's; 1 is right, below is too smooth."""
    return high_energy(found) / max(high_energy(truth), 1e-12)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "PSNR": psnr,
    "MS-SSIM": ms_ssim,
    "GMSD": gmsd,
    "gradient correlation": gradient_correlation,
    "high-frequency ratio": high_ratio,
}
