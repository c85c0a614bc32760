"""The items: which commands each runs, and what is read from their output."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Command, Output
from latency import latency_items
from machine import output
from settings import FUSED, GRAPH, HERE, Settings

Figures = dict[str, Any]


def never(_: Settings) -> None:
    """Nothing keeps an item from being done."""


@dataclass(frozen=True)
class Item:
    """One item; `number` is its row in README.md."""

    name: str
    number: str
    title: str
    commands: Callable[[Settings], list[Command]]
    figures: Callable[[Settings, list[Output]], Figures]
    skip: Callable[[Settings], str | None] = never
    """Why it cannot be done here, if so."""


def bundle_commands(precision: str) -> Callable[[Settings], list[Command]]:
    """Makes the bundle, unless it is there."""

    def commands(settings: Settings) -> list[Command]:
        folder = settings.bundles[precision]
        if (folder / "bundle.yaml").is_file():
            return []
        flags = ["--family", "v1", "--random-weights", 0, "--no-text-encoder",
                 "--precision", precision, "--out", folder]  # fmt: skip
        return [settings.python("-m", "diffbir_export", *flags)]

    return commands


def bundle_figures(precision: str) -> Callable[[Settings, list[Output]], Figures]:
    """Its size."""

    def figures(settings: Settings, _: list[Output]) -> Figures:
        files = [file for file in settings.bundles[precision].iterdir() if file.is_file()]
        return {"bytes": sum(file.stat().st_size for file in files)}

    return figures


def fuse(settings: Settings) -> list[Command]:
    """Adds the variants for CUDA to the fp16 bundle; they are held against the plain graphs."""
    flags = [settings.bundles["fp16"], "--provider", "cuda"]
    return [settings.python("-m", "diffbir_export.variants", *flags)]


def fused_figures(settings: Settings, outputs: list[Output]) -> Figures:
    """What the command tells: errors on the CPU and how many operators were fused."""
    return {"seconds": outputs[0].seconds, "says": outputs[0].stdout.splitlines()}


def doctor(engine: str, precision: str = "fp32") -> Callable[[Settings], list[Command]]:
    """What every graph would run on."""
    return lambda settings: [
        settings.program("doctor", "--json", engine=engine, precision=precision)
    ]


def told(_: Settings, outputs: list[Output]) -> Figures:
    """What the doctor tells, as it is."""
    import json

    return json.loads(outputs[0].stdout)


def tensors_run(settings: Settings, name: str, engine: str | None, precision: str) -> Command:
    """A short run that keeps its intermediate results."""
    return settings.program(
        "bench", "--json", "--runs", 1, "--size", settings.short_edge, "--upscale", 1,
        "--steps", settings.steps, "--cfg-scale", settings.cfg_scale,
        "--tensors", settings.tensors(name), engine=engine, precision=precision,
    )  # fmt: skip


def differences(settings: Settings, found: str, wanted: str) -> Figures:
    """How far two runs are apart: relative RMS of each result, and mean levels of the picture."""
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(settings.tensors(name)) for name in (found, wanted))
    rms = {
        name: float((a[name] - b[name]).square().mean().sqrt() / b[name].square().mean().sqrt())
        for name in ("stage1", "c_img", "z", "decoded")
    }
    levels = [(t["color_fixed"].clamp(0, 1) * 255).round() for t in (a, b)]
    finite = all(bool(torch.isfinite(value).all()) for value in a.values() if value.dim() == 4)
    return {
        "relative_rms": rms,
        "mean_levels": float((levels[0] - levels[1]).abs().mean()),
        "finite": finite,
    }


def parity_items(settings: Settings) -> list[Item]:
    """Results against those in f32."""

    def against_cpu(settings: Settings) -> list[Command]:
        return [tensors_run(settings, "cpu", None, "fp32"),
                tensors_run(settings, "cuda", "cuda", "fp32")]  # fmt: skip

    items = [Item("parity-cpu", "2", "CUDA in fp32 gives the CPU's picture", against_cpu,
                  lambda settings, _: differences(settings, "cuda", "cpu"))]  # fmt: skip
    for engine in (engine for engine in settings.engines if not engine.startswith("torch-")):
        name = f"{engine}-fp16"

        def against_f32(
            settings: Settings, engine: str = engine, name: str = name
        ) -> list[Command]:
            there = settings.tensors("cuda").is_file()
            first = [] if there else [tensors_run(settings, "cuda", "cuda", "fp32")]
            return [*first, tensors_run(settings, name, engine, "fp16")]  # fmt: skip

        items.append(
            Item(f"parity-{name}", "16" if engine.startswith(FUSED) else "5",
                 f"{engine} in fp16 against fp32", against_f32,
                 lambda settings, _, name=name: differences(settings, name, "cuda"),
                 SKIPS.get(engine, never))
        )  # fmt: skip
    return items


def needs_tensorrt(settings: Settings) -> str | None:
    """Whether TensorRT's library is missing."""
    if settings.device != "cuda":
        return None
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError as error:
        return f"TensorRT 10 is not there: {error}"
    return None


def needs_variants(settings: Settings) -> str | None:
    """Whether the variants for CUDA are missing: without them plain graphs would run."""
    manifest = settings.bundles["fp16"] / "bundle.yaml"
    if settings.device != "cuda" or (
        manifest.is_file() and "provider: cuda" in manifest.read_text()
    ):
        return None
    return "the fp16 bundle has no variants for CUDA: see the item variants-cuda"


SKIPS = {"tensorrt": needs_tensorrt, FUSED: needs_variants, f"{FUSED}{GRAPH}": needs_variants}
"""By engine, why it cannot be run here."""


def needs_device(settings: Settings) -> str | None:
    """Whether there is no device, as in the self-test."""
    return None if settings.device == "cuda" else "needs a CUDA device"


def without_cudnn(settings: Settings) -> list[Command]:
    """The doctor without the folders that libraries were found in."""
    return [settings.program("doctor", "--json", codes=(0, 4), env={"LD_LIBRARY_PATH": ""})]


def without_cudnn_figures(_: Settings, outputs: list[Output]) -> Figures:
    """Whether it failed loudly; where all loads, the libraries lie elsewhere."""
    code, says = outputs[0].code, outputs[0].stderr[-500:]
    return {"exit_code": code, "shown": code == 4, "says": says}


def noise(settings: Settings) -> list[Command]:
    """torch's draws on the device; the Rust test reads them elsewhere."""
    return [settings.python(HERE / "cuda_noise.py", settings.out / "cuda_noise.safetensors")]


def large_run(settings: Settings, budget: str) -> list[Command]:
    """A picture that does not fit the device whole."""
    return [
        settings.program("bench", "--json", "--runs", 1, "--size", settings.large, "--upscale", 1,
                         "--steps", 2, "--cfg-scale", 1, "--memory-budget", budget)
    ]  # fmt: skip


def low_vram(settings: Settings) -> list[Command]:
    """A usual picture with as little of the device as there is a configuration for."""
    return [
        settings.program("bench", "--json", "--runs", 1, "--size", settings.short_edge,
                         "--upscale", 1, "--steps", settings.steps, engine="low-vram",
                         precision="fp16")
    ]  # fmt: skip


def large_figures(_: Settings, outputs: list[Output]) -> Figures:
    """Time, and what it took of the device."""
    record = outputs[0].records("bench")[0]
    return {
        "seconds": record["whole"]["median"],
        "device_bytes": outputs[0].device_bytes,
        "plan": record["plan"],
    }


def device_budget(settings: Settings) -> str:
    """The device's memory; where nobody tells it, some."""
    query = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "-i", "0")
    told = output(*query) if settings.device == "cuda" else None
    return f"{told}MiB" if told else "8GiB"


def stages_items() -> list[Item]:
    """Seconds for each stage, as a user runs it."""

    def commands(precision: str) -> Callable[[Settings], list[Command]]:
        return lambda settings: [
            settings.program("bench", "--json", "--runs", settings.runs,
                             "--size", settings.short_edge, "--upscale", 1,
                             "--steps", settings.cases[min(1, len(settings.cases) - 1)].steps,
                             precision=precision)
        ]  # fmt: skip

    def figures(_: Settings, outputs: list[Output]) -> Figures:
        record = outputs[0].records("bench")[0]
        keys = ("stages", "step", "whole", "startup_seconds", "graphs", "versions")
        return {**{key: record[key] for key in keys}, "device_bytes": outputs[0].device_bytes}

    return [Item(f"stages-{precision}", "4", f"seconds per stage, {precision}",
                 commands(precision), figures) for precision in ("fp32", "fp16")]  # fmt: skip


def all_items(settings: Settings) -> list[Item]:
    """In the order in which they are done: what others need first."""
    bundles = [Item(f"bundle-{precision}", "", f"a full-size bundle in {precision}",
                    bundle_commands(precision), bundle_figures(precision))
               for precision in ("fp32", "fp16")]  # fmt: skip
    return [
        *bundles,
        Item("variants-cuda", "16", "the fp16 bundle gets variants for CUDA", fuse, fused_figures,
             needs_device),
        Item("doctor-cuda", "1", "the CUDA provider runs every graph", doctor("cuda"), told),
        Item("doctor-cuda-fused", "16", "and every variant for it", doctor(FUSED, "fp16"), told,
             needs_variants),
        *parity_items(settings),
        Item("missing-cudnn", "3", "without cuDNN it fails loudly", without_cudnn,
             without_cudnn_figures),
        *stages_items(),
        *latency_items(settings, Item, SKIPS),
        Item("low-vram", "13", "a small device", low_vram, large_figures),
        Item("doctor-tensorrt", "7", "TensorRT runs every graph", doctor("tensorrt"), told,
             needs_tensorrt),
        Item("noise", "6", "torch's noise on this device is recorded", noise,
             lambda settings, _: {"file": str(Path("cuda_noise.safetensors"))}, needs_device),
        Item("allocator", "9", "a picture that does not fit goes on in parts",
             lambda s: large_run(s, "1TB"), large_figures),
        Item("budget", "10", "a budget of the device's memory holds",
             lambda s: large_run(s, device_budget(s)), large_figures),
    ]  # fmt: skip
