"""Writes one golden file, with the versions of the packages that made it in its header."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write(script: str, arrays: dict[str, np.ndarray], packages: list[str], **notes: object) -> None:
    """Writes `arrays` to NAME.safetensors beside `script`, which lies in a folder NAME.

    Run again with the same versions (requirements.txt), a script writes the same bytes.
    """
    folder = Path(script).resolve().parent
    made_by = {"generator": f"tests/goldens/{folder.name}/make.py", "python": platform.python_version()}
    made_by |= {package: version(package) for package in ["numpy", *packages]}
    # One entry: safetensors writes several in random order.
    metadata = {"made_by": json.dumps(made_by | notes)}
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    path = folder / f"{folder.name}.safetensors"
    save_file(arrays, path, metadata)
    print(f"{path}: {len(arrays)} arrays, {path.stat().st_size} bytes")
