"""The measures of the evaluation."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from PIL import Image

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from train import evaluate, metrics  # noqa: E402


class TestMetrics:
    picture = synthetic(1, 192)[0]

    def test_a_picture_against_itself(self):
        values = [metric(self.picture, self.picture) for metric in metrics.METRICS.values()]
        assert values[0] > 100
        assert values[1:] == pytest.approx([1, 0, 1, 1], abs=1e-9)

    def test_psnr_of_a_known_error(self):
        a = np.full((8, 8, 3), 100, np.uint8)
        assert metrics.psnr(a + 5, a) == pytest.approx(20 * np.log10(255 / 5))

    def test_ssim_agrees_with_its_formula_on_flat_pictures(self):
        a, b = np.full((32, 32), 100.0), np.full((32, 32), 150.0)
        wanted = (2 * 100 * 150 + metrics.C1) / (100**2 + 150**2 + metrics.C1)
        assert metrics.ssim_parts(a, b) == pytest.approx((wanted, 1.0))

    def test_ssim_agrees_with_scikit_image(self):
        measure = pytest.importorskip("skimage.metrics").structural_similarity
        rng = np.random.default_rng(0)
        a = metrics.luma(self.picture)
        b = a + rng.normal(0, 10, a.shape)
        full = measure(a, b, data_range=255, gaussian_weights=True, sigma=1.5,
                       use_sample_covariance=False, full=True)[1]  # fmt: skip
        assert metrics.ssim_parts(a, b)[0] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)

    def test_direction(self):
        """Blur lowers the band's energy, noise raises it; both cost every measure."""
        image = Image.fromarray(self.picture)
        soft = np.asarray(image.resize((48, 48), 3).resize((192, 192), 3))
        loud = evaluate.noisy(self.picture, 4 * metrics.high_energy(self.picture) + 1, 0)
        assert (
            metrics.high_ratio(soft, self.picture)
            < 0.9
            < 1.5
            < metrics.high_ratio(loud, self.picture)
        )
        for bad in (soft, loud):
            assert metrics.ms_ssim(bad, self.picture) < 1 and metrics.gmsd(bad, self.picture) > 0
            assert metrics.gradient_correlation(bad, self.picture) < 1

    def test_the_noise_row_has_the_asked_energy(self):
        grey = np.full((128, 128, 3), 120, np.uint8)
        loud = evaluate.noisy(grey, 3000.0, 0)
        assert metrics.high_energy(loud) == pytest.approx(3000, rel=0.05)
