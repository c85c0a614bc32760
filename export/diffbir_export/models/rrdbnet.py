"""RRDBNet (Wang et al., ESRGAN, arXiv 1809.00219) with BSRNet's parameter names (arXiv 2103.14006).

Written here because it is small and the only other user of a further dependency would be this file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import RRDBNetConfig
from . import reach

RESIDUAL_SCALE = 0.2


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DenseBlock(nn.Module):
    """Five densely connected convolutions."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", conv3(nf + (i - 1) * gc, gc if i < 5 else nf))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [N,nf,H,W] -> same."""
        features = [x]
        for i in range(1, 5):
            conv = getattr(self, f"conv{i}")
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), 0.2))
        return x + RESIDUAL_SCALE * self.conv5(torch.cat(features, 1))


class RRDB(nn.Module):
    """Three dense blocks inside a residual."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(nf, gc)
        self.RDB2 = DenseBlock(nf, gc)
        self.RDB3 = DenseBlock(nf, gc)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [N,nf,H,W] -> same."""
        return x + RESIDUAL_SCALE * self.RDB3(self.RDB2(self.RDB1(x)))


class RRDBNet(nn.Module):
    """Picture [N,3,H,W] in [0,1], H and W multiples of `multiple` -> [N,3,H*scale,W*scale]."""

    def __init__(self, config: RRDBNetConfig) -> None:
        super().__init__()
        nf, fold = config.nf, config.unshuffle
        self.multiple, self.scale, self.doublings = fold, config.sf, config.doublings
        self.halo = reach.rrdbnet(config.nb, self.doublings, fold)
        self.conv_first = conv3(config.in_nc * fold**2, nf)
        self.RRDB_trunk = nn.Sequential(*(RRDB(nf, config.gc) for _ in range(config.nb)))
        self.trunk_conv = conv3(nf, nf)
        for i in range(1, self.doublings + 1):
            self.add_module(f"upconv{i}", conv3(nf, nf))
        self.HRconv = conv3(nf, nf)
        self.conv_last = conv3(nf, config.out_nc)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = image.to(self.conv_last.weight.dtype)
        x = self.conv_first(F.pixel_unshuffle(x, self.multiple) if self.multiple > 1 else x)
        x = x + self.trunk_conv(self.RRDB_trunk(x))
        for i in range(1, self.doublings + 1):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(getattr(self, f"upconv{i}")(x), 0.2)
        return self.conv_last(F.leaky_relu(self.HRconv(x), 0.2)).float()
