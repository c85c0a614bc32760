"""SwinIR (Liang et al., arXiv 2108.10257), the variant that DiffBIR's stage one uses.

The picture is first folded by pixel unshuffle, then goes through residual Swin transformer blocks
and is brought back by nearest-neighbour upsampling and convolutions. Parameter names are those of
the official checkpoints. spandrel's class holds the same weights but exports the attention mask of
one size only (2e-4 off at any other), hence this definition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import SwinIRConfig
from . import reach, windows

# Mean of DIV2K, part of the architecture: it is not in the checkpoints.
RGB_MEAN = (0.4488, 0.4371, 0.4040)
PENALTY = -100.0


class WindowAttention(nn.Module):
    """Multi-head attention inside one window with a learned relative position bias."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.scale = (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.index = windows.relative_index(window).reshape(-1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`x` [B,w*w,C] -> same."""
        length, c = self.window**2, x.shape[-1]
        qkv = self.qkv(x).unflatten(2, (3 * self.heads, c // self.heads)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)
        bias = self.relative_position_bias_table[self.index].reshape(length, length, self.heads)
        bias = bias.permute(2, 0, 1)[None]
        return self.proj(windows.attend(q * self.scale, k, v, bias, mask))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [...,C] -> same."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Window attention and MLP, each with its residual; every second block is shifted."""

    def __init__(self, config: SwinIRConfig, heads: int, shifted: bool) -> None:
        super().__init__()
        dim = config.embed_dim
        self.window = config.window_size
        self.shift = config.window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, config.window_size)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [N,H,W,C] -> same; `mask` is used by shifted blocks only."""
        y = self.norm1(x)
        if self.shift:
            y = windows.roll(y, self.shift)
        y = self.attn(windows.partition(y, self.window), mask if self.shift else None)
        y = windows.merge(y, x.shape, self.window)
        if self.shift:
            y = windows.roll(y, -self.shift)
        x = x + y
        return x + self.mlp(self.norm2(x))


class ResidualGroup(nn.Module):
    """Holds a group's blocks under the checkpoint's name."""

    def __init__(self, config: SwinIRConfig, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(config, heads, bool(i % 2)) for i in range(depth))


class RSTB(nn.Module):
    """Residual Swin transformer block: a group of blocks, a convolution, a skip."""

    def __init__(self, config: SwinIRConfig, depth: int, heads: int) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(config, depth, heads)
        self.conv = nn.Conv2d(config.embed_dim, config.embed_dim, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [N,H,W,C] -> same."""
        y = x
        for block in self.residual_group.blocks:
            y = block(y, mask)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PatchNorm(nn.Module):
    """Holds the layer norm in front of the groups under the checkpoint's name."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)


class SwinIR(nn.Module):
    """Picture [N,3,H,W] in [0,1], H and W multiples of `multiple` -> [N,3,H*scale,W*scale]."""

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__()
        features = config.num_feat
        dim, fold = config.embed_dim, config.unshuffle_scale if config.unshuffle else 1
        self.window, self.doublings = config.window_size, config.sf.bit_length() - 1
        self.multiple, self.scale = config.window_size * fold, config.sf / fold
        self.halo = reach.swinir(config.depths, config.window_size, fold, self.doublings)
        first = nn.Conv2d(config.in_chans * fold**2, dim, 3, padding=1)
        self.conv_first = nn.Sequential(nn.PixelUnshuffle(fold), first) if fold > 1 else first
        self.patch_embed = PatchNorm(dim)
        self.layers = nn.ModuleList(
            RSTB(config, depth, heads)
            for depth, heads in zip(config.depths, config.num_heads, strict=True)
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = nn.Conv2d(dim, dim, 3, padding=1)
        before = nn.Conv2d(dim, features, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(before, nn.LeakyReLU(0.01))
        for i in range(1, self.doublings + 1):
            self.add_module(f"conv_up{i}", nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, config.in_chans, 3, padding=1)
        self.mean = torch.tensor(RGB_MEAN, device="cpu").reshape(1, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = self.conv_first((image - self.mean).to(self.conv_last.weight.dtype))
        x = self.upsample(self.conv_after_body(self.body(x)) + x)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2)).float() + self.mean

    def body(self, x: Tensor) -> Tensor:
        """The transformer groups on [N,C,h,w]."""
        x = self.patch_embed.norm(x.permute(0, 2, 3, 1))
        mask = windows.shift_mask(x, self.window, self.window // 2, PENALTY)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x).permute(0, 3, 1, 2)

    def upsample(self, x: Tensor) -> Tensor:
        """Nearest-neighbour doublings with a convolution behind each."""
        x = self.conv_before_upsample(x)
        for i in range(1, self.doublings + 1):
            conv = getattr(self, f"conv_up{i}")
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        return x
