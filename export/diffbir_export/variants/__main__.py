"""`python -m diffbir_export.variants BUNDLE`: adds variants to a bundle, in place.

Those for CUDA are made on demand only (`--provider cuda`): they have not run on a GPU yet.

What was exported stays as it is, up to where it lies: weights inside a graph's own file move beside
it, and the decoder's reverse pass refers to the decoder's weights instead of repeating them.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import bundle, in_place, verify
from ..errors import UsageError, VerificationError
from ..onnx_parts import Source, data_files
from ..share import SHARED, share
from . import make

# Against the decoder itself, whose picture the reverse pass makes too.
PICTURE_BOUND = 1e-5


def add_variants(
    folder: Path, new: Path, entry: dict[str, Any], log: make.Log, provider: str
) -> bool:
    """Writes a graph's variants into `new`, and the graph anew if its weights lie in its file."""
    base = folder / entry["file"]
    mine = [variant for variant in entry["variants"] if variant["provider"] == provider]
    is_there = any(variant["precision"] != "int8" for variant in mine)
    if is_there or not make.possible(entry, provider):
        return False
    if not make.applies(base, entry["kind"], provider):
        return False
    base = in_place.beside(base, new, entry)
    if unlisted := data_files(Source(base).tensors.values()) - entry["files"].keys():
        # A run that was interrupted has moved the weights and not yet their hashes.
        entry["files"] |= bundle.hashes([base, *(folder / name for name in unlisted)])
    kept = [variant for variant in entry["variants"] if variant["provider"] != provider]
    entry["variants"] = kept + make.write(base, new, entry, log, provider)
    return True


def same_picture(path: Path, other: Path, shared: bytes) -> None:
    """Raises a `VerificationError` unless both graphs decode a latent to the same picture."""
    latent = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    [wanted] = verify.session(other).run(None, {"latent": latent})
    model = make.check.session(shared, other.parent)
    found, _ = model.run(None, {"latent": latent, "cotangent": np.zeros_like(wanted)})
    error, _ = verify.compare(found, wanted)
    if error > PICTURE_BOUND:
        raise VerificationError(
            f"{path.name}: relative RMS {error:.2e} against {other.name} is above "
            f"{PICTURE_BOUND:.0e}"
        )


def share_weights(folder: Path, new: Path, graphs: dict[str, Any], log: make.Log) -> bool:
    """Lets graphs that repeat another one's weights refer to them."""
    changed = False
    for name, source in SHARED.items():
        if name not in graphs or source not in graphs:
            continue
        entry, file = graphs[name], graphs[source]["file"]
        path = folder / entry["file"]
        other = (new if (new / file).exists() else folder) / file
        model = share(path, other)
        if model is None:
            # A run that was interrupted has replaced the graph and not yet its hash.
            if not data_files(Source(path).tensors.values()) - entry["files"].keys():
                continue
            model = Source(path).model
        data = model.SerializeToString()
        same_picture(path, other, data)
        (new / path.name).write_bytes(data)
        entry["files"] = share_files(new / path.name, graphs[source])
        log(f"{path.stem}: shares the weights of {other.stem}")
        changed = True
    return changed


def share_files(path: Path, source: dict[str, Any]) -> dict[str, str]:
    """The files of a graph that has its weights in those of another."""
    used = data_files(Source(path).tensors.values())
    return bundle.hashes([path]) | {k: v for k, v in source["files"].items() if k in used}


def add(folder: Path, log: make.Log, provider: str = "cpu") -> bool:
    """Adds the variants that a bundle lacks, in place; whether there was anything to add.

    Files are replaced in an order that, interrupted, lets it run again.
    """
    document = bundle.read(folder)
    graphs, before = document["graphs"], bundle.files(document)
    if provider == "cuda" and not any(make.possible(entry, provider) for entry in graphs.values()):
        raise UsageError(f"{folder}: none of its graphs is fp16, and variants for CUDA are")
    with tempfile.TemporaryDirectory(prefix=".variants.", dir=folder) as name:
        new = Path(name)
        changed = False
        for entry in graphs.values():
            changed |= add_variants(folder, new, entry, log, provider)
        changed |= share_weights(folder, new, graphs, log)
        if changed:
            bundle.replace(folder, new, document)
    for left in before - bundle.files(document):
        (folder / left).unlink(missing_ok=True)
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code, as `cli.py` describes it."""
    parser = in_place.parser(
        "diffbir_export.variants",
        "Adds to a bundle the variants of its graphs that are faster on a provider.",
    )
    parser.add_argument("--provider", choices=make.PROVIDERS, default="cpu",
                        help="whose variants to add (default: cpu)")  # fmt: skip
    args = parser.parse_args(arguments)
    return in_place.run(partial(add, provider=args.provider), args.bundle, "variants")


if __name__ == "__main__":
    sys.exit(main())
