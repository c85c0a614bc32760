"""Building a bundle, one graph after another so that only one's weights are in memory."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import yaml
from torch import nn

from . import bundle, contexts, graph, rrdbnet_files, segments, share, tokenizer, variants, verify
from .checkpoint import sha256
from .errors import ExportError, InputError, UsageError
from .families import defaults, prompts
from .fp16 import to_half
from .keys import ignored_patterns
from .onnx_parts import data_files
from .plan import GraphPlan, Request, check_roles, cleaner_roles, graph_plans, text_plan
from .weights import CheckpointWeights, RandomWeights, Weights, check, expected, fill, on_meta

Log = Callable[[str], None]


def check_weights(request: Request, plans: list[GraphPlan], weights: Weights) -> None:
    """Compares every file's keys with what all graphs together need, before any work."""
    if request.diffusion and not any(plan.name == "text_encoder" for plan in plans):
        plans = [*plans, text_plan(request.config)]  # the contexts need it all the same
    needed, architectures = {}, {}
    for plan in plans:
        sources = expected(on_meta(plan.build), plan.keys)
        needed |= sources
        if plan.contract.kind == "cleaner":
            architectures |= {source.role: plan.architecture for source in sources}
    for role in sorted({source.role for source in needed}):
        architecture = architectures.get(role)
        ignored = ignored_patterns(role, architecture, request.config)
        where = f"{role}={request.files[role]}" if role in request.files else role
        try:
            check(weights, role, needed, ignored, where)
        except InputError as error:
            if architecture is None or architecture == "rrdbnet":
                raise
            hint = rrdbnet_files.hint(weights.shapes(role) or ())
            raise InputError(f"{error}. Expected {architecture}. {hint}") from None


def load_module(plan: GraphPlan, weights: Weights, storage: str) -> nn.Module:
    """The plan's module with its weights."""
    return fill(on_meta(plan.build), plan.keys, weights, storage == "fp16")


def shared(kind: str, files: list[Path], folder: Path) -> list[Path]:
    """A graph's files, with the weights that another graph has in that one's data file."""
    other = folder / f"{share.SHARED.get(kind)}.onnx"
    if not other.is_file() or (model := share.share(files[0], other)) is None:
        return files
    for file in files:
        file.unlink()
    onnx.save(model, files[0])
    return [files[0], *(folder / name for name in sorted(data_files(model.graph.initializer)))]


def export_graph(
    plan: GraphPlan, request: Request, weights: Weights, folder: Path, log: Log
) -> dict[str, Any]:
    """Exports and verifies one graph; returns its entry in `bundle.yaml`."""
    started = time.perf_counter()
    precision = "fp32" if plan.f32_only else request.precision
    module = load_module(plan, weights, request.storage)
    wanted = verify.reference(module, plan.contract)
    if precision == "fp16":
        module = to_half(module)
    model = graph.trace(module, plan.contract)
    graph.strip(model)
    if request.storage == "fp16" and precision == "fp32":
        graph.store_half(model)
    segmented = plan.contract.kind in segments.KINDS or (
        plan.architecture in ("rrdbnet", "bsrnet")
        and precision == "fp32"
        and plan.contract.multiple == 1
    )
    varied = request.variants and precision == "fp32" and plan.contract.kind in variants.KINDS
    files = graph.save(model, folder / f"{plan.name}.onnx", beside=segmented or varied)
    files = shared(plan.contract.kind, files, folder)
    del module, model
    gc.collect()
    measured = verify.verify(files[0], plan.contract, wanted, precision)
    for row in measured:
        log(
            f"{plan.name:16} {row.batch}x{row.height}x{row.width:<6} "
            f"{row.relative_rms:9.2e} {row.max_abs:9.2e}"
        )
    if segmented:
        files.append(segments.make(files[0], folder, precision, log))
    entry = {
        "kind": plan.contract.kind,
        "architecture": plan.architecture,
        "file": files[0].name,
        "precision": precision,
        "multiple": plan.contract.multiple,
        "scale": plan.contract.scale,
        "max_activation": float(f"{wanted.max_activation:.4g}"),
        "files": bundle.hashes(files),
        "verified": [row.as_dict() for row in measured],
        "variants": [],
    }
    if request.storage != precision and precision == "fp32":
        entry["storage"] = request.storage
    if plan.contract.halo is not None:
        entry["halo"] = plan.contract.halo
    if segmented:
        entry["segments"] = files[-1].name
    if varied:
        entry["variants"] = variants.write(files[0], folder, entry, log)
    log(f"{plan.name}: {time.perf_counter() - started:.0f} s")
    return entry


def write_contexts(request: Request, weights: Weights, folder: Path) -> dict[str, Any]:
    """Contexts of the default prompts; returns their entry."""
    texts = prompts(defaults(request.family, request.config.diffusion))
    path = folder / "contexts.safetensors"
    module = load_module(text_plan(request.config), weights, request.storage)
    contexts.write(path, module, texts)
    return bundle.contexts_entry(path, request.config, texts)


def write_tokenizer(folder: Path) -> dict[str, Any]:
    """`tokenizer.json`; returns its entry."""
    path = folder / "tokenizer.json"
    tokenizer.write(path)
    return {"file": path.name, "sha256": sha256(path)}


def diffusion_model(request: Request, weights: Weights, folder: Path) -> dict[str, Any]:
    """The entries that a bundle of restoration modules alone does not have."""
    options = defaults(request.family, request.config.diffusion)
    return {
        "diffusion": bundle.diffusion_entry(request.config.diffusion),
        "latent": bundle.latent_entry(request.config),
        "defaults": bundle.defaults_entry(options),
        "contexts": write_contexts(request, weights, folder),
        **({"tokenizer": write_tokenizer(folder)} if request.text_encoder else {}),
    }


def fill_folder(request: Request, folder: Path, log: Log) -> None:
    """Writes the whole bundle into `folder`."""
    check_roles(request)
    weights: Weights = (
        CheckpointWeights(request.files) if request.seed is None else RandomWeights(request.seed)
    )
    plans = graph_plans(request)
    check_weights(request, plans, weights)
    source = {"source": "trained" if request.trained else "checkpoints"}
    if request.seed is not None:
        source = {"source": "random", "seed": request.seed}
    log(f"{'graph':16} {'NxHxW':12} {'rel. RMS':>9} {'max abs':>9}  (ONNX Runtime - PyTorch)")
    document = {
        "format": bundle.FORMAT,
        "family": request.family,
        "weights": source,
        "exporter": bundle.exporter_versions(),
        "checkpoints": [
            {"role": role, "file": file.name, "sha256": sha256(file)}
            for role, file in request.files.items()
        ],
        "min_short_edge": request.min_short_edge,
        "tasks": {
            task: {"cleaner": role.replace(".", "_")}
            for task, role in cleaner_roles(request).items()
        },
        **(diffusion_model(request, weights, folder) if request.diffusion else {}),
        "graphs": {p.name: export_graph(p, request, weights, folder, log) for p in plans},
    }
    bundle.write(folder, document)


def check_out(out: Path, overwrite: bool) -> None:
    """Refuses a target that holds something, before any work."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise UsageError(f"--out {out}: is not empty (--overwrite replaces it)")
        if not (out / "bundle.yaml").is_file():
            raise UsageError(f"--out {out}: holds no bundle, so --overwrite does not replace it")
        try:
            bundle.validate(yaml.safe_load((out / "bundle.yaml").read_text()))
        except (ExportError, yaml.YAMLError, UnicodeDecodeError):
            raise UsageError(f"--out {out}: its bundle.yaml is not valid, so --overwrite does not "
                             "replace it") from None  # fmt: skip


def carry_over(old: Path, new: Path) -> None:
    """Moves what stands beside the old bundle and is no part of it into the new one's folder."""
    manifest = old / "bundle.yaml"
    listed = bundle.files(yaml.safe_load(manifest.read_text())) if manifest.is_file() else set()
    for path in old.iterdir():
        if path.name not in listed and not (new / path.name).exists():
            path.rename(new / path.name)


def build(request: Request, log: Log) -> None:
    """Writes the bundle at `request.out`, or nothing."""
    out = request.out.absolute()
    check_out(out, request.overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from None
    try:
        folder.chmod(0o755)
        fill_folder(request, folder, log)
        if out.exists():
            carry_over(out, folder)
            shutil.rmtree(out)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
