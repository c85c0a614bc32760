"""Figures as Markdown."""

from __future__ import annotations

from typing import Any

NAMES = {
    "cleaner": "cleaner",
    "vae_encoder": "VAE encoder",
    "sampling": "sampling",
    "step": "one step",
    "vae_decoder": "VAE decoder",
    "whole": "whole",
}


def row(cells: list[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, rows)]) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def gib(value: int | None) -> str:
    """An amount of memory."""
    return "-" if value is None else f"{value / 2**30:.2f} GiB"


def facts(record: dict[str, Any]) -> str:
    """What was compared where."""
    ours, theirs = record["ready"]["diffbir"], record["ready"]["PyTorch"]
    versions = {**ours["versions"], **theirs["versions"]}
    versions.pop("library", None)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{record['bundle']}, {record['size']}x{record['size']}, {record['steps']} steps, "
        f"cfg {record['cfg_scale']:g}; {ours['machine']['cpu']}, {record['threads']} threads each; "
        f"{named}, Python {record['python']}; {record['turns']} turns; load average "
        f"{record['load'][0]:.1f}. PyTorch runs {theirs['modules']} modules with fused attention; "
        f"compared is {record['compared']}. The GEMM peak is the best f32 matrix product of both: "
        f"{2 * record['floor_macs_per_second'] / 1e9:.0f} GFLOP/s.\n"
    )


def speed_rows(record: dict[str, Any]) -> list[list[str]]:
    """One row for each part: seconds, their ratio, and how near the GEMM peak both are."""
    floor, rows = record["floor_macs_per_second"], []
    theirs, ours = record["sides"][record["compared"]], record["sides"]["diffbir"]
    for part, macs in ((part, record["macs"].get(part)) for part in NAMES):
        cells = [NAMES[part], number(macs and macs / 1e9, 1)]
        for side in (theirs, ours):
            taken = side[part]
            rate = macs / taken if macs and taken else None
            cells += [number(taken), number(rate and 2 * rate / 1e9, 0),
                      "-" if rate is None else f"{100 * rate / floor:.0f} %"]  # fmt: skip
        rows.append([*cells, number(record["ratios"]["diffbir"][part], 3)])
    return rows


def whole_rows(record: dict[str, Any]) -> list[list[str]]:
    """One row for each side: the whole run, and the ratio where it is ours."""
    rows = []
    for name, side in record["sides"].items():
        times = record["ratios"].get(name, {}).get("whole")
        rows.append([name, number(side["whole"]), number(times, 3), gib(peak(record, name))])
    for name in record["peaks"].keys() - record["sides"].keys() - {"PyTorch"}:
        rows.append([name, "-", "-", gib(record["peaks"][name])])
    return rows


def peak(record: dict[str, Any], name: str) -> int | None:
    """A side's peak memory: both ways of PyTorch's share one."""
    return record["peaks"].get("PyTorch" if name.startswith("PyTorch") else name)


def comparison(record: dict[str, Any]) -> str:
    """All of `compare.py`."""
    head = ["", "GMAC", "PyTorch s", "GFLOP/s", "of GEMM peak", "diffbir s", "GFLOP/s",
            "of GEMM peak", "PyTorch / diffbir"]  # fmt: skip
    sides = ["whole run", "seconds", "PyTorch / this", "peak memory"]
    return "\n".join(
        [facts(record), table(head, speed_rows(record)), table(sides, whole_rows(record))]
    )
