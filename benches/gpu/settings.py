"""What the items run on: the GPU with full-size bundles, or for a test the CPU with a tiny one."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import Command

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPORT = ROOT / "export"

CONFIGS = ROOT / "configs"
FUSED = "cuda-fused"
"""The CUDA provider with the variants that were made for it."""
LOOSE = "cuda-loose"
"""The CUDA provider with inputs and outputs that have no place of their own on the device."""
RECORDED = {"denoiser": {"providers": [{"cuda": {"device_id": 0, "cuda_graph": True}}, "cpu"]}}
"""The denoiser's kernels recorded once and replayed: engines whose names end with `-graph`."""
GRAPH = "-graph"


def providers(engine: str | None, precision: str) -> list[str]:
    """The flags that choose an engine: a configuration that ships, and what is to be different."""
    if engine is None:
        return ["--config", str(CONFIGS / "cpu.yaml")]
    name = "tensorrt" if engine == "tensorrt" else "cuda-fp16" if precision == "fp16" else "cuda"
    settings = {
        # What is in an fp16 bundle besides its plain graphs was added for these engines.
        "runtime.variants=false": precision == "fp16" and not engine.startswith(FUSED),
        "runtime.io_binding=never": engine == LOOSE,
        f"runtime.graphs={json.dumps(RECORDED)}": engine.endswith(GRAPH),
    }
    chosen = [flag for setting, wanted in settings.items() if wanted for flag in ("--set", setting)]
    return ["--config", str(CONFIGS / f"{name}.yaml"), *chosen]


@dataclass(frozen=True)
class Case:
    """One restoration that engines are timed on."""

    name: str
    size: int
    steps: int
    tiles: tuple[int, int] | None = None
    """Size and stride of the denoiser's tiles in pixels."""
    samples: int = 1


@dataclass(frozen=True)
class Settings:
    """Where everything is, and how much is done."""

    diffbir: Path
    ort: Path | None
    out: Path
    device: str
    bundles: dict[str, Path]
    """By precision."""
    arch: Path | None
    short_edge: int
    large: int
    """The edge of a picture that is to exhaust memory."""
    steps: int
    """Of the items that are no latencies."""
    runs: int
    cases: tuple[Case, ...]
    engines: tuple[str, ...]
    cfg_scale: float = 4.0

    def tensors(self, name: str) -> Path:
        """Where a run's intermediate results go."""
        return self.out / f"{name}.safetensors"

    def program(
        self,
        *arguments: object,
        engine: str | None = "cuda",
        precision: str = "fp32",
        codes: tuple[int, ...] = (0,),
        env: dict[str, str] | None = None,
    ) -> Command:
        """A command of the program; `engine` None is the CPU."""
        engine = engine if self.device == "cuda" else None
        argv = [self.diffbir, *arguments, "--bundle", self.bundles[precision],
                *providers(engine, precision)]  # fmt: skip
        given = {"ORT_DYLIB_PATH": str(self.ort)} if self.ort else {}
        return Command([str(part) for part in argv], {**given, **(env or {})}, codes=codes)

    def python(self, *arguments: object, lines: tuple[str, ...] = ()) -> Command:
        """A command of this Python, which finds the exporter and the scripts."""
        found = [HERE.parent, EXPORT, *filter(None, [os.environ.get("PYTHONPATH")])]
        path = os.pathsep.join(str(folder) for folder in found)
        argv = [sys.executable, *(str(part) for part in arguments)]
        return Command(argv, {"PYTHONPATH": path}, lines)


def for_gpu(diffbir: Path, ort: Path | None, out: Path) -> Settings:
    """Full size on the device."""
    return Settings(
        diffbir=diffbir,
        ort=ort,
        out=out,
        device="cuda",
        bundles={precision: out / f"full-v1-{precision}" for precision in ("fp32", "fp16")},
        arch=None,
        short_edge=512,
        large=2048,
        steps=5,
        runs=5,
        cases=(
            Case("512-10", 512, 10),
            Case("512-50", 512, 50),
            Case("1024-tiled-10", 1024, 10, tiles=(512, 256)),
            Case("512-10-batch4", 512, 10, samples=4),
        ),
        engines=(
            "torch-eager",
            "torch-compile",
            LOOSE,
            "cuda",
            f"cuda{GRAPH}",
            FUSED,
            f"{FUSED}{GRAPH}",
            "tensorrt",
        ),
    )


def for_self_test(diffbir: Path, ort: Path | None, out: Path) -> Settings:
    """The same paths through this script on the CPU; its figures mean nothing."""
    tiny = ROOT / "tests/fixtures/bundle"
    return Settings(
        diffbir=diffbir,
        ort=ort,
        out=out,
        device="cpu",
        bundles={"fp32": tiny, "fp16": tiny},
        arch=EXPORT / "demo-arch",
        short_edge=256,
        large=320,
        steps=2,
        runs=1,
        cases=(
            Case("256-2", 256, 2),
            Case("320-tiled-2-batch2", 320, 2, tiles=(256, 128), samples=2),
        ),
        engines=("torch-eager", "cuda", FUSED),
    )
