"""Commands that add variants to a bundle, in place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from . import bundle, graph
from .errors import ExportError, tell
from .onnx_parts import Source

Log = Callable[[str], None]
Change = Callable[[Path, Log], bool]


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A command line with the bundle's folder."""
    p = argparse.ArgumentParser(prog=prog, description=description)
    p.add_argument("bundle", type=Path, help="the folder; it is changed in place")
    return p


def run(change: Change, folder: Path, what: str) -> int:
    """Adds `what` to a bundle; returns the exit code, as `cli.py` describes it."""
    try:
        changed = change(folder, print)
    except (ExportError, OSError) as error:
        return tell(error)
    except KeyboardInterrupt:
        print("interrupted: nothing was changed", file=sys.stderr)
        return 130
    print(f"{folder}: done" if changed else f"{folder}: its {what} are there already")
    return 0


def beside(path: Path, new: Path, entry: dict) -> Path:
    """The graph with its weights beside it: written anew into `new` if they lie in its file."""
    if not Source(path).inline:
        return path
    files = graph.save(ir.load(path), new / path.name, beside=True)
    entry["files"] |= bundle.hashes(files)
    return files[0]
