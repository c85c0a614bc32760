"""Networks that have seen photographs: the one that is trained with, and the one that measures."""

import base64
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import synthetic
from torch.nn import functional as F

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from train import features, inception  # noqa: E402


@pytest.fixture(scope="module")
def network():
    """VGG's layers with random weights."""
    torch.manual_seed(0)
    return features.Features()


class TestFeatures:
    def test_equal_pictures_have_no_distance(self, network):
        a, b = (torch.from_numpy(p).permute(2, 0, 1)[None] / 127.5 - 1 for p in synthetic(2))
        assert network.distance(a, a) == 0 and network.distance(a, b) > 0.01

    def test_the_gradient_goes_to_the_first_picture_alone(self, network):
        a, b = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in "ab")
        network.distance(a, b).backward()
        assert a.grad.abs().sum() > 0 and b.grad is None
        assert not any(p.requires_grad for p in network.parameters())

    def test_levels_are_blue_green_red_less_their_means(self, network):
        """The first convolution sees what HED's does."""
        picture = torch.rand(1, 3, 16, 16)
        levels = 255 * picture.flip(1) - torch.tensor(features.MEAN)[None, :, None, None]
        first, second = network.blocks[0]
        wanted = F.normalize(F.relu(second(F.relu(first(levels)))), dim=1, eps=1e-3)
        assert torch.allclose(network(picture * 2 - 1)[0], wanted, atol=1e-3)

    def test_weights_are_kept_beside_the_data(self, network, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(features, "extract", lambda f: calls.append(f) or network.state_dict())
        a, b = (features.Features.load(tmp_path) for _ in "ab")
        assert calls == [tmp_path]
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def layer(kind, name, source, **config):
    """A layer as Keras writes it."""
    inbound = [[[name, 0, 0, {}] for name in source]]
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": inbound}


LAYERS = [
    {"class_name": "InputLayer", "name": "in", "config": {}, "inbound_nodes": []},
    layer("Conv2D", "c1", ["in"], padding="valid", strides=[2, 2]),
    layer("BatchNormalization", "b1", ["c1"]),
    layer("Activation", "mixed2", ["b1"], activation="relu"),
    layer("AveragePooling2D", "p1", ["mixed2"], pool_size=[3, 3], strides=[1, 1], padding="same"),
    layer("MaxPooling2D", "mixed7", ["mixed2"], pool_size=[3, 3], strides=[2, 2], padding="valid"),
    layer("Concatenate", "mixed10", ["p1", "mixed2"], axis=3),
    layer("Dense", "rest", ["mixed10"]),
]
SHAPES = {"c1/kernel": [3, 3, 3, 4], "b1/beta": [4], "b1/moving_mean": [4],
          "b1/moving_variance": [4]}  # fmt: skip


def minified(value) -> str:
    """JSON as a minifier writes it."""
    text = json.dumps(value, separators=(",", ":"))
    for old, new in (("true", "!0"), ("false", "!1"), (":0.", ":."), ("-0.", "-.")):
        text = text.replace(old, new)
    for key in ("class_name", "name", "config", "inbound_nodes", "layers", "scale", "min"):
        text = text.replace(f'"{key}":', f"{key}:")
    return text


def package(folder: Path) -> dict[str, np.ndarray]:
    """Writes a package with a small network in two files; returns its weights."""
    data, entries, weights = b"", [], {}
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        q = rng.integers(0, 256, shape, dtype=np.uint8)
        scale = {"scale": 0.004, "min": 0.1 if "variance" in name else -0.5, "dtype": "uint8"}
        weights[name] = (q * scale["scale"] + scale["min"]).astype(np.float32)
        data += q.tobytes()
        entries.append({"name": name, "shape": shape, "quantization": scale})
    manifest = [{"paths": ["group1-shard1of2", "group1-shard2of2"], "weights": entries}]
    config = {"trainable": False, "layers": LAYERS}
    model = {"modelTopology": {"model_config": {"config": config}}, "weightsManifest": manifest}
    files = {"model": minified(model), "group1-shard1of2": json.dumps(encoded(data[:50])),
             "group1-shard2of2": json.dumps(encoded(data[50:]))}  # fmt: skip
    with tarfile.open(folder / "nsfwjs-4.4.0.tgz", "w:gz") as tar:
        for name, value in files.items():
            text = (
                f"!function(a){{module.exports=a()}}({{1:[function(a,n,i){{n.exports={value}}}]}})"
            )
            info = tarfile.TarInfo(f"{inception.MODEL}/{name}.min.js")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return weights


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class TestInception:
    def test_a_literal(self):
        text = '{a:!0,b_1:[.5,-.25,1e-3],"c":{d:!1,e:null}},{},[1])'
        assert inception.literal(text) == {
            "a": True, "b_1": [0.5, -0.25, 0.001], "c": {"d": False, "e": None}}  # fmt: skip

    def test_the_network_is_the_packages(self, tmp_path):
        weights = {k: torch.from_numpy(v) for k, v in package(tmp_path).items()}
        picture = synthetic(1)[0]
        image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
        x = F.conv2d(image, weights["c1/kernel"].permute(3, 2, 0, 1), stride=2)
        x = (x - weights["b1/moving_mean"][:, None, None]) / (
            weights["b1/moving_variance"][:, None, None] + 1e-3).sqrt()  # fmt: skip
        x = F.relu(x + weights["b1/beta"][:, None, None])
        # Keras' averages at borders are of the places inside.
        inside = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        last = torch.cat([F.avg_pool2d(x, 3, 1, 1) / inside, x], 1)
        wanted = [F.normalize(y, dim=1, eps=1e-3) for y in (x, F.max_pool2d(x, 3, 2), last)]
        found = inception.Inception(tmp_path).features(picture)
        assert [f.shape for f in found] == [w.shape for w in wanted]
        assert all(torch.allclose(f, w, atol=1e-5) for f, w in zip(found, wanted, strict=True))

    def test_distances(self, tmp_path):
        package(tmp_path)
        a, b = synthetic(2)
        measure = inception.Inception(tmp_path).distance
        assert measure(a, a) == 0 and 0 < measure(a, b) == measure(b, a) < 2

    def test_an_unknown_layer_is_named(self, tmp_path, monkeypatch):
        package(tmp_path)
        network = inception.Inception(tmp_path)
        with pytest.raises(ValueError, match="layer x: Softmax"):
            network.layer(layer("Softmax", "x", ["in"]), [])
