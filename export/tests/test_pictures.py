"""The degradation, and the pictures that are trained and measured on."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from PIL import Image

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from diffbir_export.degrade import PRESETS, degrade, jpeg, kernel  # noqa: E402
from train import metrics, pictures  # noqa: E402
from train.data import Crops, generator  # noqa: E402


class TestDegradation:
    def test_equal_seeds_equal_pictures(self):
        picture = synthetic(1)[0]
        for preset in PRESETS.values():
            a, b, c = (degrade(picture, preset, np.random.default_rng(s)) for s in (3, 3, 4))
            assert a.shape == (40, 40, 3) and a.dtype == np.uint8
            assert np.array_equal(a, b) and not np.array_equal(a, c)

    def test_kernels_are_averages(self):
        for seed in range(50):
            weights = kernel(PRESETS["general"].first, np.random.default_rng(seed))
            assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-5)
            assert weights.shape[0] == weights.shape[1] and weights.shape[0] % 2 == 1

    def test_statistics(self):
        """The mean stays; on a flat picture what is left is noise of the preset's strength."""
        flat = np.full((128, 128, 3), 120, np.uint8)
        results = [degrade(flat, PRESETS["demo"], np.random.default_rng(s)) for s in range(20)]
        assert abs(np.mean([r.mean() for r in results]) - 120) < 1.5
        deviations = [r.astype(float).std() for r in results]
        assert 1 < np.median(deviations) < 16 and len(set(np.round(deviations, 3))) > 15

    def test_jpeg_costs_quality(self):
        picture = synthetic(1)[0]
        order = replace(PRESETS["demo"].first, jpeg=(30, 30))
        worse = jpeg(picture, order, np.random.default_rng(0))
        assert 20 < metrics.psnr(worse, picture) < 50

    def test_command(self, tmp_path):
        Image.fromarray(synthetic(1, 101)[0]).save(tmp_path / "in.png")
        files = [tmp_path / "a.png", tmp_path / "b.png"]
        for file in files:
            command = [sys.executable, "-m", "diffbir_export.degrade", tmp_path / "in.png", file]
            subprocess.run([*command, "--seed", "5"], check=True, cwd=EXPORT)
        assert files[0].read_bytes() == files[1].read_bytes()
        assert Image.open(files[0]).size == (25, 25)


class TestPictures:
    def test_shards_round_trip(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pictures, "SHARD_BYTES", 60_000)
        originals = synthetic(6)

        def entries():
            for i, picture in enumerate(originals):
                path = tmp_path / f"p{i}.png"
                Image.fromarray(picture).save(path)
                content = pictures.prepare(path.read_bytes())
                digest = pictures.hashlib.sha256(content).hexdigest()
                yield {"file": path.name, "sha256": digest}, content

        rows = pictures.write_shards(entries(), tmp_path, "train")
        (tmp_path / "manifest.json").write_text(json.dumps({"choice": "", "pictures": rows}))
        shards = sorted(tmp_path.glob("*.tar"))
        assert len(shards) > 1 and all(s.stat().st_size <= 60_000 for s in shards)
        found = pictures.load(tmp_path, "train")
        assert list(found) == [f"{i:04}_p{i}" for i in range(6)]
        for original, picture in zip(originals, found.values(), strict=True):
            assert metrics.psnr(picture, original) > 35
        assert pictures.load(tmp_path, "held_out") == {}

    def test_large_pictures_shrink_and_cut_outs_get_grey(self, tmp_path):
        Image.new("RGBA", (3000, 30), (0, 0, 0, 0)).save(tmp_path / "x.png")
        image = Image.open(pictures.io.BytesIO(pictures.prepare((tmp_path / "x.png").read_bytes())))
        assert image.size == (2048, 20) and image.getpixel((9, 9)) == (128, 128, 128)

    def test_held_out_pictures_are_never_trained_on(self):
        chosen = pictures.sources()["packages"]
        for source in chosen.values():
            files = [file for kind in pictures.SETS for file in source.get(kind, ())]
            assert len(files) == len(set(files))
        sizes = {kind: sum(len(source.get(kind, ())) for source in chosen.values())
                 for kind in pictures.SETS}  # fmt: skip
        assert sizes["held_out"] >= 24 and sizes["round_1"] == sizes["round_2"] == 30
        always = pictures.sources()["always_held_out"]
        assert set(always["skimage"]) >= {"astronaut", "coffee", "chelsea", "rocket"}
        assert set(always["sklearn"]) == {"china", "flower"}

    def test_crops_are_functions_of_seed_and_step(self):
        crops = Crops(synthetic())
        a, b, c = (crops.clean(2, 64, generator(0, "x", step)) for step in (1, 1, 2))
        assert a.shape == (2, 64, 64, 3)
        assert np.array_equal(a, b) and not np.array_equal(a, c)

    def test_pictures_inside_a_resource_file(self, tmp_path):
        """Small ones and what only begins like a picture do not count."""
        files = []
        for size in (300, 80, 256):
            buffer = pictures.io.BytesIO()
            Image.new("RGB", (size, size + 9), (size % 256, 9, 9)).save(buffer, "WEBP")
            files.append(buffer.getvalue())
        noise = b"RIFF\x08\0\0\0WEBPVP8 none"
        (tmp_path / "a.rcc").write_bytes(b"qres" + files[0] + noise + files[1] + b"??" + files[2])
        for number, file in enumerate((files[0], files[2])):
            assert pictures.read(tmp_path, f"a.rcc#{number}")[1] == file
        with pytest.raises(IndexError):
            pictures.read(tmp_path, "a.rcc#2")
