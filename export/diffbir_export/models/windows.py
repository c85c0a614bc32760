"""Window attention's bookkeeping, shared by SwinIR and SCUNet (Liu et al., arXiv 2103.14030).

Everything that depends on the picture's size is computed in the graph from its shape: tracing a
mask or a padding as a constant gives a graph that is silently wrong at every other size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def partition(x: Tensor, window: int) -> Tensor:
    """Cuts [N,H,W,C] into windows: [N*H/w*W/w, w*w, C]. H and W are multiples of `window`."""
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    x = x.reshape(n, rows, window, columns, window, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n * rows * columns, window * window, c)


def merge(windows: Tensor, shape: tuple[int, ...], window: int) -> Tensor:
    """Puts windows [N*H/w*W/w, w*w, C] back together as `shape`: [N,H,W,C].

    No size is left to be inferred (-1): the tracer spends minutes on such equations.
    """
    n, h, w, c = shape
    x = windows.reshape(n, h // window, w // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)


def roll(x: Tensor, shift: int) -> Tensor:
    """Cyclic shift of [N,H,W,C] up and left by `shift` pixels; back again if negative."""
    x = torch.cat([x[:, shift:], x[:, :shift]], dim=1)
    return torch.cat([x[:, :, shift:], x[:, :, :shift]], dim=2)


def shift_mask(x: Tensor, window: int, shift: int, penalty: float) -> Tensor:
    """Additive attention mask [N*H/w*W/w, 1, w*w, w*w] of a picture [N,H,W,C] rolled by `shift`.

    After the roll the last windows of each axis hold pixels of two opposite borders, which must
    not see each other: `penalty` is added between them and 0 elsewhere.
    """
    n, h, w, _ = x.shape
    rows = (torch.arange(h) >= h - shift).to(torch.float32)
    columns = (torch.arange(w) >= w - shift).to(torch.float32)
    region = (2 * rows[:, None] + columns[None, :])[None, :, :, None]
    region = partition(region.expand(n, h, w, 1), window).squeeze(-1)
    differs = region[:, None, :, None] != region[:, None, None, :]
    return differs.to(x.dtype) * penalty


def relative_index(window: int) -> Tensor:
    """Index [w*w, w*w] of each pair's offset in a flattened (2w-1)x(2w-1) table."""
    axis = torch.arange(window, device="cpu")
    ys, xs = (grid.reshape(-1) for grid in torch.meshgrid(axis, axis, indexing="ij"))
    dy = ys[:, None] - ys[None, :] + window - 1
    dx = xs[:, None] - xs[None, :] + window - 1
    return dy * (2 * window - 1) + dx


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention over windows, softmax in f32: [B,heads,L,d] -> [B,L,heads*d].

    `bias` is [1,heads,L,L], `mask` [B,1,L,L]; q comes already scaled.
    """
    scores = (q @ k.transpose(-2, -1)).float() + bias.float()
    if mask is not None:
        scores = scores + mask.float()
    out = scores.softmax(-1).to(v.dtype) @ v
    return out.transpose(1, 2).flatten(2)
