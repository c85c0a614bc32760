"""Does the items of README.md beside this file on a machine with an NVIDIA GPU, one after another.

    python benches/gpu/run.py --diffbir DIR/diffbir --ort DIR/libonnxruntime.so.1.31.1 --out RESULTS

Each item stands alone: one that fails is noted and the next goes on. What has a result in
RESULTS/results.json is not done again, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from commands import run_command  # noqa: E402
from items import Item, all_items  # noqa: E402
from machine import facts  # noqa: E402
from rows import markdown_rows  # noqa: E402
from settings import Settings, for_gpu, for_self_test  # noqa: E402

Results = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """All flags."""
    p = argparse.ArgumentParser(prog="run.py", description=__doc__.split("\n")[0])
    p.add_argument("--diffbir", type=Path, required=True, metavar="PATH", help="the program")
    p.add_argument(
        "--ort", type=Path, metavar="PATH", help="ONNX Runtime's library, of a GPU build"
    )
    p.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="DIR",
                   help="results and bundles (8 GB); default: gpu-results")  # fmt: skip
    p.add_argument("--only", nargs="+", default=[], metavar="NAME",
                   help="items whose names begin so")  # fmt: skip
    p.add_argument("--again", action="store_true", help="do items anew that have results")
    p.add_argument("--timeout", type=float, default=3600, metavar="SECONDS",
                   help="of one command; TensorRT builds for long (default: 3600)")  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="print items and commands, do nothing")
    p.add_argument("--self-test", action="store_true",
                   help="everything on the CPU with the tests' tiny bundle, quickly: figures that "
                        "mean nothing")  # fmt: skip
    return p


def chosen(items: list[Item], only: list[str]) -> list[Item]:
    """The items that were asked for."""
    unknown = [name for name in only if not any(item.name.startswith(name) for item in items)]
    if unknown:
        raise SystemExit(f"error: --only {unknown[0]}: no item begins so; --dry-run lists them")
    return [item for item in items if not only or any(item.name.startswith(n) for n in only)]


def read(path: Path) -> Results:
    """Earlier results."""
    return json.loads(path.read_text()) if path.is_file() else {"items": {}}


def write(path: Path, results: Results) -> None:
    """Replaces the file at once, so that a stop leaves the old one or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    Path(file.name).replace(path)
    (path.parent / "results.md").write_text(markdown_rows(results))


def done(item: Item, settings: Settings, timeout: float) -> dict[str, Any]:
    """One item's result: its figures, why it was left out, or how it failed."""
    if reason := item.skip(settings):
        return {"status": "skipped", "reason": reason}
    try:
        outputs = [run_command(command, timeout) for command in item.commands(settings)]
        return {"status": "done", "figures": item.figures(settings, outputs)}
    except Exception as error:  # whatever it is, the next item goes on
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


def run_all(items: list[Item], settings: Settings, args: argparse.Namespace) -> int:
    """Does what has no result yet; returns how many failed."""
    path, failed = args.out / "results.json", 0
    results = read(path)
    results["machine"] = facts(settings)
    for item in items:
        earlier = results["items"].get(item.name, {})
        if earlier.get("status") == "done" and not args.again:
            print(f"{item.name}: has a result", flush=True)
            continue
        start = time.monotonic()
        print(f"{item.name}: {item.title}", flush=True)
        result = done(item, settings, args.timeout)
        result |= {
            "number": item.number, "title": item.title,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(time.monotonic() - start, 1),
        }  # fmt: skip
        results["items"][item.name] = result
        write(path, results)
        failed += result["status"] == "failed"
        told = result.get("error") or result.get("reason") or json.dumps(result["figures"])
        print(f"  {result['status']}: {told[:2000]}", flush=True)
    return failed


def print_plan(items: list[Item], settings: Settings) -> None:
    """What would be done."""
    for item in items:
        number = f" ({item.number})" if item.number else ""
        print(f"{item.name}{number}: {item.title}")
        if reason := item.skip(settings):
            print(f"    left out: {reason}")
        for command in item.commands(settings):
            print("    " + shlex.join(command.argv))


def main(arguments: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    args = parser().parse_args(arguments)
    make = for_self_test if args.self_test else for_gpu
    settings = make(args.diffbir.absolute(), args.ort and args.ort.absolute(), args.out.absolute())
    items = chosen(all_items(settings), args.only)
    if args.dry_run:
        print_plan(items, settings)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ.pop("LD_PRELOAD", None)
    failed = run_all(items, settings, args)
    print(f"\n{(args.out / 'results.md').read_text()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
