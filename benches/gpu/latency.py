"""Latencies: every engine on every case."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from commands import Command, Output
from settings import FUSED, Case, Settings


def program(settings: Settings, engine: str, case: Case) -> Command:
    """The program on one case, in fp16."""
    tiles = ["--tile", f"cldm={case.tiles[0]}:{case.tiles[1]}"] if case.tiles else []
    return settings.program(
        "bench", "--json", "--runs", settings.runs, "--size", case.size, "--upscale", 1,
        "--sampler", "spaced", "--steps", case.steps, "--cfg-scale", settings.cfg_scale,
        "--samples", case.samples, "--batch-size", case.samples,
        "--set", "runtime.memory=keep", *tiles, engine=engine, precision="fp16",
    )  # fmt: skip


def pytorch(settings: Settings, engine: str, case: Case) -> Command:
    """PyTorch on it: one run to warm up, then those that count."""
    flags = ["--bundle", settings.bundles["fp16"], "--device", settings.device,
             "--size", case.size, case.size, "--steps", case.steps,
             "--cfg-scale", settings.cfg_scale, "--samples", case.samples]  # fmt: skip
    flags += ["--half"] if settings.device == "cuda" else ["--threads", 1]
    if settings.arch:
        flags += ["--arch-config", settings.arch]
    if case.tiles:
        flags += ["--tiles", case.tiles[0] // 8, case.tiles[1] // 8]
    if engine == "torch-compile":
        flags += ["--compile"]
    return settings.python("-m", "torchside", *flags, lines=("batched",) * (settings.runs + 1))


def command(settings: Settings, engine: str, case: Case) -> Command:
    """One engine on one case."""
    make = pytorch if engine.startswith("torch-") else program
    return make(settings, engine, case)


def figures(case: Case, output: Output) -> dict[str, Any]:
    """Latency, a step, throughput in pictures a second, and the device's memory."""
    runs = output.records("run")[1:]
    if not runs:
        record = output.records("bench")[0]
        runs = record["runs"]
    whole = median(run["whole"] for run in runs)
    return {
        "seconds": whole,
        "step": median(step for run in runs for step in run["steps"]),
        "stages": {name: median(run["stages"][name] for run in runs) for name in runs[0]["stages"]},
        "pictures_per_second": case.samples / whole,
        "runs": len(runs),
        "device_bytes": output.device_bytes,
    }


def latency_items(settings: Settings, item: type, skips: dict[str, Callable]) -> list[Any]:
    """An item for each engine and case; `skips` says by engine when there is none."""
    return [
        item(
            f"latency-{case.name}-{engine}",
            "16" if engine.startswith(FUSED) else "4",
            f"{engine}, fp16, {case.size}x{case.size}, {case.steps} steps, cfg "
            f"{settings.cfg_scale:g}, {case.samples} at once"
            + (f", tiles {case.tiles[0]}:{case.tiles[1]}" if case.tiles else ""),
            lambda s, engine=engine, case=case: [command(s, engine, case)],
            lambda s, outputs, case=case: figures(case, outputs[0]),
            **({"skip": skips[engine]} if engine in skips else {}),
        )
        for case in settings.cases
        for engine in settings.engines
    ]
