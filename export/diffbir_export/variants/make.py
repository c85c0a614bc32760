"""Which variants a graph has, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ValueInfoProto

from .. import bundle
from ..errors import ExportError
from . import check, cuda, parts
from .attention import attention
from .channels_last import channels_last
from .graph import Graph
from .halves import halves
from .phases import doublings, phases
from .prefix import EARLY, share_prefix
from .shallow import DEEP, as_f32, hand_out, shallow

Log = Callable[[str], None]
Rewrite = Callable[[Graph], int]

# Those of CUDA are of fp16 graphs. On the CPU fp16 would round anew: it has no such arithmetic.
PRECISIONS = {"cpu": "fp32", "cuda": "fp16"}
PROVIDERS = tuple(PRECISIONS)
REWRITES: dict[str, dict[str, Rewrite]] = {
    "cleaner": {"phases": phases},
    "vae_encoder": {"attention": attention},
    "vae_decoder": {"phases": phases, "attention": attention},
    "denoiser": {"phases": phases, "attention": attention},
}
KINDS = tuple(REWRITES)
KINDS_OF = {"cpu": KINDS, "cuda": cuda.KINDS}
BATCH = "B*N"
"""A shallow one for the CPU besides, unless nothing is rewritten in it."""


@dataclass
class Variant:
    """A rewritten graph and what `bundle.yaml` says of it."""

    name: str
    model: onnx.ModelProto
    rewrites: dict[str, int]
    role: str
    provider: str
    shares_prefix: bool = False
    deep: str | None = None
    left: int = 0
    """Values that a run leaves for later ones, for each row and latent cell."""

    @property
    def precision(self) -> str:
        """That of the graph that it was made of."""
        return PRECISIONS[self.provider]

    def file_name(self, base: Path) -> str:
        """`denoiser.cpu.onnx` or `denoiser.cpu.shallow.onnx`."""
        middle = self.name.replace("-", ".")
        return f"{base.stem}.{middle}.onnx"


def places(graph: Graph, name: str) -> int:
    """How many places a graph has for a rewrite."""
    if name == "phases":
        return len(doublings(graph))
    return sum(node.op_type == "Softmax" for node in graph.nodes)


def rewritten(graph: Graph, kind: str) -> dict[str, int]:
    """Applies a kind's rewrites, all or an error; how often each was applied, without the zeros."""
    counts = {}
    for name, rewrite in REWRITES[kind].items():
        wanted = places(graph, name)
        counts[name] = rewrite(graph)
        if counts[name] != wanted:
            raise ExportError(
                f"{graph.path.name}: {name} were rewritten in {counts[name]} places of {wanted}"
            )
    return {name: count for name, count in counts.items() if count}


def rebatch(graph: Graph) -> None:
    """Declares inputs and outputs with the rows that they have when the prefix is shared."""
    for value in (*graph.inputs, *graph.outputs):
        if value.name not in (*EARLY, "strength"):
            value.type.tensor_type.shape.dim[0].dim_param = BATCH


def remaining(part: Graph) -> dict[str, int]:
    """How many rewritten attentions of the whole are in a part of it."""
    count = sum(node.op_type == "MultiHeadAttention" for node in part.nodes)
    return {"attention": count} if count else {}


def denoisers(graph: Graph, provider: str) -> list[tuple[str, Graph]]:
    """The whole denoiser, which hands out `deep`, and what else there is of it: roles and graphs.

    Each still has to share its prefix. The halves are those of the CPU alone: on a GPU what passes
    between them would travel through the host.
    """
    parts = list(zip(("control", "unet"), halves(graph, BATCH), strict=True))
    hand_out(graph, BATCH)
    made = [("whole", graph), ("shallow", shallow(graph))]
    for _, part in made:
        as_f32(part)
    return made + (parts if provider == "cpu" else [])


def share(graph: Graph) -> int:
    """Lets branches share what does not depend on context; how many values are repeated."""
    rebatch(graph)
    shared = share_prefix(graph, {i.name for i in graph.inputs} - {*EARLY, "strength"})
    if not shared:
        raise graph.refuse("nothing in it is independent of context")
    return shared


def left(graph: Graph) -> int:
    """Values besides the contract's output for each latent cell; a side is `8*s` or `s`."""

    def side(value: ValueInfoProto) -> int:
        factor, star, _ = value.type.tensor_type.shape.dim[2].dim_param.partition("*")
        return int(factor) if star else 1

    [x] = [value for value in graph.inputs if value.name == "x"]
    others = [value for value in graph.outputs if value.name != "output"]
    each = [value.type.tensor_type.shape.dim[1].dim_value * (side(value) / side(x)) ** 2
            for value in others]  # fmt: skip
    return math.ceil(sum(each))


def counted(part: Graph, role: str, counts: dict[str, int], provider: str) -> dict[str, int]:
    """What was rewritten in a part of a graph, of `counts` in all."""
    if provider == "cuda":
        return cuda.counts(part)
    if role == "whole":
        return counts
    # All doublings are on the UNet's way up, and lie deeper than its last layers.
    doubled = counts.get("phases", 0) if role == "unet" else 0
    return remaining(part) | ({"phases": doubled} if doubled else {})


def variants(base: Path, kind: str, provider: str = "cpu") -> list[Variant]:
    """The variants of a saved graph for a provider; none where no rewrite applies."""
    graph = Graph(base)
    counts: dict[str, int] = {}
    if provider == "cuda":
        cuda.fuse(graph)
    else:
        counts = rewritten(graph, kind)
    is_denoiser = kind == "denoiser"
    made = []
    for role, part in denoisers(graph, provider) if is_denoiser else [("whole", graph)]:
        prefix = {"prefix": share(part)} if is_denoiser else {}
        if provider == "cuda":
            channels_last(part)
        found = counted(part, role, counts, provider) | prefix
        if found:
            name = provider if role == "whole" else f"{provider}-{role}"
            passed = (DEEP if role in ("whole", "shallow") else None, left(part)) if prefix else ()
            made.append(Variant(name, part.finish(), found, role, provider, bool(prefix), *passed))
    return made


def applies(base: Path, kind: str, provider: str = "cpu") -> bool:
    """Whether a graph has a place for some rewrite; every denoiser has, and for CUDA all have."""
    if kind == "denoiser" or provider == "cuda":
        return True
    graph = Graph(base)
    return any(places(graph, name) for name in REWRITES[kind])


def possible(entry: dict[str, Any], provider: str = "cpu") -> bool:
    """Whether a graph may have variants for a provider."""
    return entry["kind"] in KINDS_OF[provider] and entry["precision"] == PRECISIONS[provider]


def write(
    base: Path, folder: Path, entry: dict[str, Any], log: Log, provider: str = "cpu"
) -> list[dict[str, Any]]:
    """Writes a graph's variants for a provider into `folder`; returns their entries.

    `base` is the graph as saved, with large weights beside it; `entry` what `bundle.yaml` says of
    it. Each variant is run against it, and refused if it differs.
    """
    made = variants(base, entry["kind"], provider) if possible(entry, provider) else []
    if not made:
        return []
    if provider == "cuda":
        check.only_kernels_are_missing(made, base)
    measured = check.check(base, entry, made, check.FORMS[provider])
    result = []
    for variant, rows in zip(made, measured, strict=True):
        path = folder / variant.file_name(base)
        path.write_bytes(variant.model.SerializeToString(deterministic=True))
        worst = max(row.relative_rms for row in rows)
        log(f"{path.stem:22} {worst:9.2e}  {variant.rewrites}")
        result.append(describe(variant, path, rows))
    if entry["kind"] == "denoiser" and provider == "cpu":
        result.append(write_parts(base, folder, made[0], measured[0], log))
    return result


def write_parts(
    base: Path, folder: Path, whole: Variant, rows: list[check.Measured], log: Log
) -> dict[str, Any]:
    """Writes the variant `whole`, which `rows` tell of, in parts; returns the entry."""
    model = onnx.ModelProto()
    model.CopyFrom(whole.model)
    del model.graph.output[1:]  # Deep features are for those who want speed.
    path = folder / f"{base.stem}.{whole.name}.parts.safetensors"
    parts.write(parts.cut(model, base), path)
    first = rows[0]
    inputs = check.feed(model, first.batch, first.height, first.width, max(check.BRANCHES))
    wanted, *_ = check.session(whole.model.SerializeToString(), base.parent).run(None, inputs)
    found = parts.run(path, base.parent, inputs)[model.graph.output[0].name]
    row = check.Measured(first.batch, first.height, first.width, *check.compare(found, wanted))
    log(f"{path.stem:22} {row.relative_rms:9.2e}")
    check.hold(path.name, whole.name, [row], check.BOUND)
    variant = Variant(f"{whole.name}-parts", model, whole.rewrites, "parts", whole.provider, True)
    return describe(variant, path, [row])


def describe(variant: Variant, path: Path, rows: list[check.Measured]) -> dict[str, Any]:
    """A variant's entry in `bundle.yaml`."""
    return {
        "name": variant.name,
        "provider": variant.provider,
        "file": path.name,
        "precision": variant.precision,
        "role": variant.role,
        "shares_prefix": variant.shares_prefix,
        **({"deep": variant.deep} if variant.deep else {}),
        **({"left": variant.left} if variant.left else {}),
        "rewrites": dict(sorted(variant.rewrites.items())),
        "files": bundle.hashes([path]),
        "verified": [row.as_dict() for row in rows],
    }
