"""SCUNet (Zhang et al., arXiv 2203.13278): a U-Net of blocks that pair convolutions with windows.

Parameter names are those of the official checkpoints. spandrel's class holds the same weights but
exports the padding of one size only and fails at any other, hence this definition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import SCUNetConfig
from . import windows

WINDOW = 8
HEAD_DIM = 32
MULTIPLE = 64
PENALTY = -1e4  # stands for minus infinity; fits fp16


class WindowAttention(nn.Module):
    """Attention in windows of 8x8, shifted by 4 if `shifted`."""

    def __init__(self, dim: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shift = dim // HEAD_DIM, WINDOW // 2 if shifted else 0
        self.relative_position_params = nn.Parameter(
            torch.zeros(self.heads, 2 * WINDOW - 1, 2 * WINDOW - 1)
        )
        self.embedding_layer = nn.Linear(dim, 3 * dim)
        self.linear = nn.Linear(dim, dim)
        self.index = windows.relative_index(WINDOW).reshape(-1)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [N,H,W,C] -> same."""
        shape, mask = x.shape, None
        if self.shift:
            mask = windows.shift_mask(x, WINDOW, self.shift, PENALTY)
            x = windows.roll(x, self.shift)
        x = windows.partition(x, WINDOW)
        qkv = self.embedding_layer(x).unflatten(2, (3 * self.heads, HEAD_DIM))
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=1)
        bias = self.relative_position_params.flatten(1)[:, self.index]
        bias = bias.reshape(1, self.heads, WINDOW**2, WINDOW**2)
        x = self.linear(windows.attend(q * HEAD_DIM**-0.5, k, v, bias, mask))
        x = windows.merge(x, shape, WINDOW)
        return windows.roll(x, -self.shift) if self.shift else x


class TransformerBlock(nn.Module):
    """Window attention and MLP, each with its residual."""

    def __init__(self, dim: int, shifted: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dim)
        self.msa = WindowAttention(dim, shifted)
        self.ln2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [N,H,W,C] -> same."""
        x = x + self.msa(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class ConvTransBlock(nn.Module):
    """Half of the channels through convolutions, half through a transformer block."""

    def __init__(self, dim: int, shifted: bool) -> None:
        super().__init__()
        half = dim // 2
        self.trans_block = TransformerBlock(half, shifted)
        self.conv1_1 = nn.Conv2d(dim, dim, 1)
        self.conv1_2 = nn.Conv2d(dim, dim, 1)
        self.conv_block = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`x` [N,C,H,W] -> same."""
        conv, trans = self.conv1_1(x).chunk(2, dim=1)
        conv = conv + self.conv_block(conv)
        trans = self.trans_block(trans.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv1_2(torch.cat([conv, trans], dim=1))


def stage(dim: int, depth: int, resolution: int) -> list[nn.Module]:
    """`depth` blocks, every second one shifted unless one window covers the whole picture."""
    shifts = resolution > WINDOW
    return [ConvTransBlock(dim, shifts and bool(i % 2)) for i in range(depth)]


def down(dim: int) -> nn.Conv2d:
    """Halves the size and doubles the channels."""
    return nn.Conv2d(dim, 2 * dim, 2, stride=2, bias=False)


def up(dim: int) -> nn.ConvTranspose2d:
    """Doubles the size and halves the channels."""
    return nn.ConvTranspose2d(dim, dim // 2, 2, stride=2, bias=False)


class SCUNet(nn.Module):
    """Picture [N,3,H,W] in [0,1], any size -> same size."""

    def __init__(self, config: SCUNetConfig) -> None:
        super().__init__()
        d, depth, r = config.dim, config.config, config.input_resolution
        self.multiple, self.scale = 1, 1
        self.halo = None  # its windows stand at multiples of 64, where tiles need not start
        self.m_head = nn.Sequential(nn.Conv2d(config.in_nc, d, 3, padding=1, bias=False))
        self.m_down1 = nn.Sequential(*stage(d, depth[0], r), down(d))
        self.m_down2 = nn.Sequential(*stage(2 * d, depth[1], r // 2), down(2 * d))
        self.m_down3 = nn.Sequential(*stage(4 * d, depth[2], r // 4), down(4 * d))
        self.m_body = nn.Sequential(*stage(8 * d, depth[3], r // 8))
        self.m_up3 = nn.Sequential(up(8 * d), *stage(4 * d, depth[4], r // 4))
        self.m_up2 = nn.Sequential(up(4 * d), *stage(2 * d, depth[5], r // 2))
        self.m_up1 = nn.Sequential(up(2 * d), *stage(d, depth[6], r))
        self.m_tail = nn.Sequential(nn.Conv2d(d, config.in_nc, 3, padding=1, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        """Pads to a multiple of 64 by repeating the last row and column, and crops again."""
        h, w = image.shape[2:]
        x1 = self.m_head(pad_edge(image).to(self.m_tail[0].weight.dtype))
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        x = self.m_body(x4)
        x = self.m_up3(x + x4)
        x = self.m_up2(x + x3)
        x = self.m_up1(x + x2)
        return self.m_tail(x + x1)[:, :, :h, :w].float()


def pad_edge(image: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,H',W'], the next multiples of 64, the last row and column repeated."""
    h, w = image.shape[2:]
    bottom, right = (MULTIPLE - 1 + h) // MULTIPLE, (MULTIPLE - 1 + w) // MULTIPLE
    pad = (0, right * MULTIPLE - w, 0, bottom * MULTIPLE - h)
    return F.pad(image, pad, mode="replicate")
