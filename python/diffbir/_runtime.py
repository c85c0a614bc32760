"""ONNX Runtime as the running interpreter has it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

OLDEST = (1, 31)

# A key `library` that names one. A false alarm only means that the library looks for itself.
_NAMED = re.compile(r"""(?<![\w.-])["']?library["']?\s*:\s*(?!["']?auto\b)\S""")
_COMMENT = re.compile(r"(?m)(^|\s)#.*$")


def installed() -> Path | None:
    """Return the library of the installed package onnxruntime or onnxruntime-gpu.

    The package is not imported. None where there is none or it is older than 1.31. A package in the
    working folder is ignored, though an interactive interpreter has that folder on its path.
    """
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in map(Path, folders or ()):
        if folder.parent.resolve() == Path.cwd():
            continue
        libraries = sorted((folder / "capi").glob("libonnxruntime.so*"))
        libraries += sorted((folder / "capi").glob("libonnxruntime.*dylib"))
        libraries += sorted((folder / "capi").glob("onnxruntime.dll"))
        version = _version(folder)
        if libraries and version is not None and version >= OLDEST:
            return libraries[0]
    return None


def _version(folder: Path) -> tuple[int, int] | None:
    """Return the version of the distribution whose package is `folder`."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        for found in importlib.metadata.distributions(name=name):
            if Path(str(found.locate_file("onnxruntime"))) == folder:
                numbers = re.match(r"(\d+)\.(\d+)", found.version)
                return (int(numbers[1]), int(numbers[2])) if numbers else None
    return None


def is_named(config: str | os.PathLike[str] | None, yaml: str | None, sets: Iterable[str]) -> bool:
    """Whether the environment or a configuration says which library to use."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return True
    if any(re.match(r"\s*runtime(\.library)?\s*=", setting) for setting in sets):
        return True
    written = [yaml] if yaml is not None else []
    if config is not None:
        try:
            written.append(Path(config).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            # The library says what is wrong with the file.
            return True
    return any(_NAMED.search(_COMMENT.sub("", one)) for one in written)
