"""Results as rows for the table in README.md."""

from __future__ import annotations

from typing import Any

from markdown import gib, number, table


def told(figures: dict[str, Any]) -> str:
    """What a row says of an item's figures."""
    parts = []
    if "seconds" in figures:
        parts.append(f"{number(figures['seconds'], 3)} s")
    if isinstance(figures.get("whole"), dict):
        parts.append(f"{number(figures['whole']['median'], 3)} s")
    for name, stage in figures.get("stages", {}).items():
        taken = stage["median"] if isinstance(stage, dict) else stage
        parts.append(f"{name} {number(taken, 3)}")
    if isinstance(figures.get("step"), float):
        parts.append(f"a step {1000 * figures['step']:.1f} ms")
    if "pictures_per_second" in figures:
        parts.append(f"{number(figures['pictures_per_second'])} pictures/s")
    if figures.get("device_bytes") is not None:
        parts.append(f"{gib(figures['device_bytes'])} of the device")
    if "relative_rms" in figures:
        rms = ", ".join(f"{name} {x:.1e}" for name, x in figures["relative_rms"].items())
        parts.append(f"relative RMS {rms}; mean {figures['mean_levels']:.4f} levels")
        parts.append("finite" if figures["finite"] else "NOT FINITE")
    if "shown" in figures:
        parts.append(f"exit code {figures['exit_code']}")
    if "bytes" in figures:
        parts.append(gib(figures["bytes"]))
    return "; ".join(parts) or "see results.json"


def row(name: str, result: dict[str, Any]) -> list[str]:
    """One item."""
    say = {"done": lambda: told(result["figures"]), "skipped": lambda: result["reason"],
           "failed": lambda: result["error"].strip().splitlines()[-1][:200]}  # fmt: skip
    return [result["number"] or "-", name, result["date"], result["status"],
            say[result["status"]]().replace("|", "/")]  # fmt: skip


def markdown_rows(results: dict[str, Any]) -> str:
    """The whole table, under what it was measured on."""
    machine = results.get("machine", {})
    packages = ", ".join(f"{name} {v}" for name, v in machine.get("packages", {}).items())
    head = (
        f"{machine.get('device')}; {machine.get('diffbir')}, {machine.get('ort')}, {packages}, "
        f"Python {machine.get('python')}\n\n"
    )
    rows = [row(name, result) for name, result in results["items"].items()]
    return head + table(["#", "item", "date", "", "result"], rows)
