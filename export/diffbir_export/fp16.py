"""Half precision: every matrix and kernel in fp16, normalisations and softmax in f32.

Graph inputs and outputs stay f32; the modules cast at their borders. fp16 ends at 65504: the
exporter records the largest activation it saw, and `verify.py` refuses a graph that overflows.
"""

from __future__ import annotations

from torch import Tensor, nn

LARGEST = 65504.0


class Float32Norm(nn.Module):
    """A normalisation computed in f32 on fp16 values."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and type as `x`."""
        return self.norm(x.float()).to(x.dtype)


def to_half(module: nn.Module) -> nn.Module:
    """Converts in place. Attention softmax is already f32 in every network here."""
    module.half()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm | nn.LayerNorm):
                setattr(parent, name, Float32Norm(child.float()))
    return module
