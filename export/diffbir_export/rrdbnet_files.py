"""RRDBNet in the layouts it is published in: sizes and parameter names are read from the file.

- Real-ESRGAN: BasicSR's, `conv_first`, `body.0.rdb1.conv1`, under `params_ema` or `params`;
- ESRGAN: the first one and many community models, `model.0`, `model.1.sub.0.RDB1.conv1.0`;
- BSRGAN: KAIR's, BSRNet's too, `conv_first`, `RRDB_trunk.0.RDB1.conv1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from .checkpoint import load_checkpoint
from .config import RRDBNetConfig
from .errors import InputError
from .keys import KeyMap, Source

Shapes = dict[str, tuple[int, ...]]

LAYOUTS = {
    "Real-ESRGAN": r"body\.(\d+)\.rdb1\.conv1\.weight",
    "ESRGAN": r"model\.1\.sub\.(\d+)\.RDB1\.conv1\.0\.weight",
    "BSRGAN": r"RRDB_trunk\.(\d+)\.RDB1\.conv1\.weight",
}
"""The first dense convolution of each block."""
SCALES = (1, 2, 4)

OTHERS = {
    "Real-ESRGAN's compact network (SRVGGNetCompact)": r"body\.1\.weight",
    "an ESRGAN with 1x1 convolutions (ESRGAN+)": r"model\.1\.sub\.0\.RDB1\.conv1x1\.weight",
    "SwinIR": r"layers\.0\.residual_group\.blocks\.0\.attn\..+",
    "SCUNet": r"m_head\.0\.weight",
    "EDSR": r"body\.0\.body\.0\.weight",
}
"""Other networks, by a key of theirs."""


@dataclass(frozen=True)
class RRDBNetFile:
    """What a checkpoint of RRDBNet holds."""

    layout: str
    config: RRDBNetConfig

    def name(self, ours: str) -> str:
        """The file's name of a parameter of `RRDBNet`."""
        module, _, leaf = ours.rpartition(".")
        if self.layout == "BSRGAN":
            return ours
        if self.layout == "Real-ESRGAN":
            block = re.sub(r"RRDB_trunk\.(\d+)\.RDB(\d)", r"body.\1.rdb\2", module)
            return f"{REAL_ESRGAN.get(module, block)}.{leaf}"
        if module.startswith("RRDB_trunk."):
            return f"model.1.sub.{module.removeprefix('RRDB_trunk.')}.0.{leaf}"
        ups = self.config.doublings
        tail = {"HRconv": 3 * ups + 2, "conv_last": 3 * ups + 4}
        trunk = {"trunk_conv": f"1.sub.{self.config.nb}"}
        places = {"conv_first": 0, "upconv1": 3, "upconv2": 6} | tail | trunk
        return f"model.{places[module]}.{leaf}"

    def keys(self, role: str) -> KeyMap:
        """Keys of `RRDBNet` in the file of `role`."""
        return lambda ours: Source(role, self.name(ours))


REAL_ESRGAN = {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2",
               "HRconv": "conv_hr"}  # fmt: skip


def doublings(layout: str, keys: Iterable[str]) -> int:
    """How often the network doubles the size."""
    if layout == "ESRGAN":
        last = max(int(key.split(".")[1]) for key in keys if re.match(r"model\.\d+\.weight", key))
        return (last - 4) // 3
    name = {"Real-ESRGAN": "conv_up{}", "BSRGAN": "upconv{}"}[layout]
    return sum(f"{name.format(i)}.weight" in keys for i in (1, 2, 3))


def inspect(shapes: Shapes, where: str) -> RRDBNetFile | None:
    """The layout and sizes of a state dict with these shapes; None if it is no RRDBNet.

    A network that folds pixels (Real-ESRGAN's x2 and x1) has 3 times 4 or 16 input channels.
    """
    matches = [(layout, match) for layout, pattern in LAYOUTS.items() for key in shapes
               if (match := re.fullmatch(pattern, key))]  # fmt: skip
    if not matches:
        return None
    layout, dense = matches[0][0], matches[0][1][0]
    blocks = [int(match[1]) for _, match in matches]
    first = {"ESRGAN": "model.0.weight"}.get(layout, "conv_first.weight")
    if any(len(shapes.get(key, ())) != 4 for key in (first, dense)):
        raise InputError(f"{where}: {first} or {dense} is missing or no convolution")
    nf, channels = shapes[first][:2]
    fold, ups = isqrt(channels // 3), doublings(layout, shapes.keys())
    scale = 2**ups // fold if fold and 2**ups % fold == 0 else 0
    if channels != 3 * fold**2 or scale not in SCALES or ups > 2:
        raise InputError(
            f"{where}: an RRDBNet of {layout}'s layout with {channels} input channels that doubles "
            f"the size {ups} times; supported are pictures of 3 channels and scales 1, 2 and 4"
        )
    config = RRDBNetConfig(in_nc=3, out_nc=3, nf=nf, nb=max(blocks) + 1, gc=shapes[dense][0],
                           sf=scale, unshuffle=fold)  # fmt: skip
    return RRDBNetFile(layout, config)


def read(path: Path) -> RRDBNetFile | None:
    """As `inspect`, of a checkpoint."""
    state = load_checkpoint(path)
    return inspect({key: tuple(value.shape) for key, value in state.items()}, str(path))


def hint(keys: Iterable[str]) -> str:
    """What to say of a restoration module's file in an unknown layout."""
    found = [name for key in keys for name, pattern in OTHERS.items() if re.fullmatch(pattern, key)]
    seen = f"It looks like {found[0]}. " if found else ""
    known = ", ".join(f"{layout}'s" for layout in LAYOUTS)
    return f"{seen}Layouts of RRDBNet that are read: {known}"
