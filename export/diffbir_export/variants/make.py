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
from ..errors import ExportError, VerificationError
from . import check, parts
from .attention import attention
from .graph import Graph
from .halves import halves
from .phases import doublings, phases
from .prefix import EARLY, share_prefix
from .shallow import DEEP, hand_out, shallow

Log = Callable[[str], None]
Rewrite = Callable[[Graph], int]

PROVIDERS = ("cpu",)
REWRITES: dict[str, dict[str, Rewrite]] = {
    "cleaner": {"phases": phases},
    "vae_encoder": {"attention": attention},
    "vae_decoder": {"phases": phases, "attention": attention},
    "denoiser": {"phases": phases, "attention": attention},
}
KINDS = tuple(REWRITES)
DENOISER_ROLES = {"whole", "parts", "control", "unet"}
"""A shallow one besides, unless nothing of it is left to share."""
BATCH = "B*N"


@dataclass
class Variant:
    """A rewritten graph and what `bundle.yaml` says of it."""

    name: str
    model: onnx.ModelProto
    rewrites: dict[str, int]
    role: str = "whole"
    shares_prefix: bool = False
    deep: str | None = None
    left: int = 0
    """Values that a run leaves for later ones, for each row and latent cell."""
    provider: str = "cpu"
    precision: str = "fp32"

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


def denoisers(graph: Graph, counts: dict[str, int]) -> list[Variant]:
    """The whole denoiser, which hands out `deep`, the one that takes it, and it in two halves."""
    control, unet = halves(graph, BATCH)
    hand_out(graph, BATCH)
    rest = shallow(graph)
    doublings = {"phases": counts["phases"]} if "phases" in counts else {}
    return [
        shared(graph, "whole", counts, deep=DEEP),
        shared(rest, "shallow", remaining(rest), deep=DEEP),
        shared(control, "control", remaining(control)),
        shared(unet, "unet", doublings | remaining(unet)),
    ]


def shared(graph: Graph, role: str, counts: dict[str, int], deep: str | None = None) -> Variant:
    """The variant of `graph`, with what does not depend on context computed once."""
    rebatch(graph)
    prefix = share_prefix(graph, {i.name for i in graph.inputs} - {*EARLY, "strength"})
    if not prefix:
        raise graph.refuse("nothing in it is independent of context")
    name = "cpu" if role == "whole" else f"cpu-{role}"
    return Variant(
        name, graph.finish(), {**counts, "prefix": prefix}, role, True, deep, left(graph)
    )


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


def remaining(part: Graph) -> dict[str, int]:
    """How many rewritten attentions of the whole are in a part of it."""
    count = sum(node.op_type == "MultiHeadAttention" for node in part.nodes)
    return {"attention": count} if count else {}


def variants(base: Path, kind: str) -> list[Variant]:
    """The variants of a saved f32 graph; none where no rewrite applies."""
    graph = Graph(base)
    counts = rewritten(graph, kind)
    if kind == "denoiser":
        return denoisers(graph, counts)
    return [Variant("cpu", graph.finish(), counts)] if counts else []


def applies(base: Path, kind: str) -> bool:
    """Whether a graph has a place for some rewrite; every denoiser has."""
    graph = Graph(base)
    return kind == "denoiser" or any(places(graph, name) for name in REWRITES[kind])


def possible(entry: dict[str, Any]) -> bool:
    """Whether a graph may have variants; fp16 is for other providers, and would round anew."""
    return entry["kind"] in KINDS and entry["precision"] == "fp32"


def complete(entry: dict[str, Any]) -> bool:
    """Whether a graph has all its variants; denoisers had fewer once."""
    roles = {variant.get("role", "whole") for variant in entry["variants"]}
    return roles >= (DENOISER_ROLES if entry["kind"] == "denoiser" else {"whole"})


def write(base: Path, folder: Path, entry: dict[str, Any], log: Log) -> list[dict[str, Any]]:
    """Writes a graph's variants into `folder`; returns their entries for `bundle.yaml`.

    `base` is the graph as saved, with large weights beside it; `entry` what `bundle.yaml` says of
    it. Each variant is run against it, and refused if it differs.
    """
    made = variants(base, entry["kind"]) if possible(entry) else []
    if not made:
        return []
    measured = check.check(base, entry, made)
    result = []
    for variant, rows in zip(made, measured, strict=True):
        path = folder / variant.file_name(base)
        path.write_bytes(variant.model.SerializeToString(deterministic=True))
        worst = max(row.relative_rms for row in rows)
        log(f"{path.stem:22} {worst:9.2e}  {variant.rewrites}")
        # A control module is judged by the UNet's output, which comes next.
        if worst > check.BOUND and variant.role != "control":
            raise VerificationError(
                f"{path.name}: relative RMS {worst:.2e} against {base.name} is above "
                f"{check.BOUND:.0e}"
            )
        result.append(describe(variant, path, rows))
    if entry["kind"] == "denoiser":
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
    if row.relative_rms > check.BOUND:
        raise VerificationError(
            f"{path.name}: relative RMS {row.relative_rms:.2e} against {whole.name} is above "
            f"{check.BOUND:.0e}"
        )
    variant = Variant(f"{whole.name}-parts", model, whole.rewrites, "parts", shares_prefix=True)
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
