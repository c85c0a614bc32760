"""What the figures are measured on."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

from settings import Settings

PACKAGES = ("torch", "diffusers", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


def output(*argv: str) -> str | None:
    """What a command prints, if it is there and succeeds."""
    if shutil.which(argv[0]) is None:
        return None
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def version(package: str) -> str | None:
    """An installed package's version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def facts(settings: Settings) -> dict[str, Any]:
    """Device, driver and versions."""
    query = "--query-gpu=name,driver_version,memory.total"
    device = output("nvidia-smi", query, "--format=csv,noheader", "-i", "0")
    return {
        "device": device or f"none: {settings.device}",
        "python": platform.python_version(),
        "diffbir": output(str(settings.diffbir), "--version"),
        "ort": settings.ort and settings.ort.name,
        "packages": {name: found for name in PACKAGES if (found := version(name))},
    }
