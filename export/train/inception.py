"""A distance of pictures by features that no training here has used: Inception v3 (Szegedy et al.,
arXiv 1512.00567), fine-tuned on photographs and drawings, out of the npm package `nsfwjs` (MIT).

The package stores Keras' description of the network and 8-bit weights inside JavaScript files,
which are read as text and never run.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PACKAGE = "nsfwjs@4.4.0"
MODEL = "package/dist/models/inception_v3"
LAYERS = ("mixed2", "mixed7", "mixed10")
"""Whose features are compared, an early, a middle and the last block: fixed before measuring."""
EPSILON = 1e-3
NORMALISATION = ("moving_mean", "moving_variance", "gamma", "beta")


def literal(text: str) -> Any:
    """A minified JavaScript literal as Python: JSON but for bare keys, `!0`, and `.5` for 0.5."""
    text = re.sub(r"([{,])([A-Za-z_]\w*):", r'\1"\2":', text)
    text = re.sub(r"(?<=[\[,:-])\.(?=\d)", "0.", text)
    return json.JSONDecoder().raw_decode(text.replace("!0", "true").replace("!1", "false"))[0]


def exported(text: str) -> str:
    """What a browser module assigns to its exports, and all that follows."""
    return text[re.search(r"\w+\.exports=(?=[{\"])", text).end() :]


def archive(folder: Path) -> Path:
    """The package in `folder`, fetched if it is not there."""
    path = folder / (PACKAGE.replace("@", "-") + ".tgz")
    if not path.is_file():
        subprocess.run(["npm", "pack", "-s", PACKAGE], cwd=folder, check=True)
    return path


def read(path: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The network's layers in order, and its weights by name."""
    with tarfile.open(path) as tar:

        def member(name: str) -> str:
            return exported(tar.extractfile(f"{MODEL}/{name}.min.js").read().decode())

        model = literal(member("model"))
        (group,) = model["weightsManifest"]
        parts = [member(name) for name in group["paths"]]
    data = b"".join(base64.b64decode(part[1 : part.index('"', 1)]) for part in parts)
    weights, place = {}, 0
    for entry in group["weights"]:
        count = int(np.prod(entry["shape"]))
        scale = entry["quantization"]
        values = np.frombuffer(data, np.uint8, count, place) * scale["scale"] + scale["min"]
        weights[entry["name"]] = values.astype(np.float32).reshape(entry["shape"])
        place += count
    if place != len(data):
        raise ValueError(f"{path}: {len(data) - place} bytes of weights are left")
    return model["modelTopology"]["model_config"]["config"]["layers"], weights


def pooled(name: str, config: dict, x: Tensor) -> Tensor:
    """Keras' pooling; at borders an average is one of the picture's own places."""
    size, stride = config["pool_size"], config["strides"]
    padding = [side // 2 for side in size] if config["padding"] == "same" else 0
    if name == "MaxPooling2D":
        return F.max_pool2d(x, size, stride, padding)
    return F.avg_pool2d(x, size, stride, padding, count_include_pad=False)


class Inception:
    """Features of pictures u8 [H,W,3], at least 75 pixels wide and high."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def network(self) -> tuple[list[dict], dict[str, Tensor]]:
        """Layers up to the last of LAYERS, and weights."""
        layers, weights = read(archive(self.folder))
        last = [layer["name"] for layer in layers].index(LAYERS[-1])
        return layers[: last + 1], {k: torch.from_numpy(v) for k, v in weights.items()}

    def layer(self, layer: dict, inputs: list[Tensor]) -> Tensor:
        """One layer's output."""
        kind, name, config = layer["class_name"], layer["name"], layer["config"]
        weights = self.network[1]
        if kind == "Conv2D":
            kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
            same = config["padding"] == "same"
            padding = [side // 2 for side in kernel.shape[2:]] if same else 0
            return F.conv2d(inputs[0], kernel, stride=config["strides"], padding=padding)
        if kind == "BatchNormalization":
            parts = [weights.get(f"{name}/{part}") for part in NORMALISATION]
            return F.batch_norm(inputs[0], *parts, eps=EPSILON)
        if kind == "Activation" and config["activation"] == "relu":
            return F.relu(inputs[0])
        if kind == "Concatenate":
            return torch.cat(inputs, 1)
        if kind in ("MaxPooling2D", "AveragePooling2D"):
            return pooled(kind, config, inputs[0])
        raise ValueError(f"layer {name}: {kind} is not known here")

    @torch.inference_mode()
    def features(self, picture: np.ndarray) -> list[Tensor]:
        """Of LAYERS, channels [1,C,h,w] of unit length."""
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        values = {}
        for layer in self.network[0]:
            if layer["class_name"] == "InputLayer":
                values[layer["name"]] = image
                continue
            inputs = [values[source[0]] for source in layer["inbound_nodes"][0]]
            values[layer["name"]] = self.layer(layer, inputs)
        return [F.normalize(values[name], dim=1, eps=1e-3) for name in LAYERS]

    def distance(self, found: np.ndarray, truth: np.ndarray) -> float:
        """Mean square distance of the features, a mean over LAYERS; 0 is best, 2 the most."""
        pairs = zip(self.features(found), self.features(truth), strict=True)
        return float(np.mean([(a - b).square().sum(1).mean().item() for a, b in pairs]))
