"""The script that times each rewrite of a graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_rewrite_is_exact_and_timed() -> None:
    """One turn on small pictures; only errors are looked at, not times."""
    command = [sys.executable, ROOT / "benches/rewrites.py", "--bundle", ROOT / "onnx/demo",
               "--size", "128", "--turns", "1", "--graph", "denoiser", "vae_encoder"]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    )
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()
            if line.startswith(("| denoiser", "| vae_encoder"))]  # fmt: skip
    named = [(graph, rewrite) for graph, rewrite, *_ in rows]
    assert named == [
        ("denoiser", "phases"),
        ("denoiser", "attention"),
        ("denoiser", "prefix"),
        ("denoiser", "all"),
        ("denoiser", "known"),
        ("vae_encoder", "attention"),
    ]
    assert all(float(error) < 1e-5 for *_, error in rows)
