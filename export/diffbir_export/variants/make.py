"""Which variants a graph has, and their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from .. import bundle
from ..errors import ExportError, VerificationError
from . import check, parts
from .attention import attention
from .graph import Graph
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
    """The whole denoiser, which hands out `deep`, and the one that takes it."""
    hand_out(graph, BATCH)
    rest = shallow(graph)
    variants = []
    for part, name, late in ((graph, "cpu", {"context"}), (rest, "cpu-shallow", {"context", DEEP})):
        rebatch(part)
        shared = share_prefix(part, late)
        if not shared:
            raise graph.refuse("nothing in it is independent of context")
        left = counts if part is graph else remaining(part)
        variants.append(Variant(name, part.finish(), {**left, "prefix": shared},
                                shares_prefix=True, deep=DEEP))  # fmt: skip
    variants[1].role = "shallow"
    return variants


def remaining(part: Graph) -> dict[str, int]:
    """How many rewritten places of the whole are in its last layers; doublings lie deeper."""
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
    exact = [variant for variant in entry["variants"] if variant["precision"] != "int8"]
    roles = {variant.get("role", "whole") for variant in exact}
    return roles >= ({"whole", "parts"} if entry["kind"] == "denoiser" else {"whole"})


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
        if worst > check.BOUND:
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
        "rewrites": dict(sorted(variant.rewrites.items())),
        "files": bundle.hashes([path]),
        "verified": [row.as_dict() for row in rows],
    }
