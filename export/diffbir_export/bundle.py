"""`bundle.yaml`: what the engine knows of a bundle. Its schema is `bundle.schema.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from . import __version__
from .checkpoint import sha256
from .config import ArchConfig, DiffusionConfig
from .errors import ExportError, InputError, UsageError
from .families import Defaults
from .graph import OPSET

FORMAT = 1
# What is replaced first when a bundle is changed in place: never a graph before its weights.
ORDER = (".data", ".safetensors", ".onnx", ".yaml")


def schema() -> dict[str, Any]:
    """The JSON Schema that exporter and engine both check against."""
    text = resources.files("diffbir_export").joinpath("bundle.schema.json").read_text()
    return json.loads(text)


def validate(document: dict[str, Any]) -> None:
    """Raises an `ExportError` naming the first place that does not fit the schema."""
    validator = jsonschema.Draft202012Validator(schema())
    if error := jsonschema.exceptions.best_match(validator.iter_errors(document)):
        place = "/".join(str(part) for part in error.absolute_path) or "top level"
        raise ExportError(f"bundle.yaml: {place}: {error.message}")


def exporter_versions() -> dict[str, Any]:
    """Versions of everything that shapes the graphs."""
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")
    # torch's own version carries the build (+cpu, +cu132), which does not shape the graphs.
    versions = {name: metadata.version(name).partition("+")[0] for name in packages}
    return {"version": __version__, **versions, "opset": OPSET}


def hashes(files: list[Path]) -> dict[str, str]:
    """File name -> sha256."""
    return {file.name: sha256(file) for file in files}


def diffusion_entry(config: DiffusionConfig) -> dict[str, Any]:
    """The schedule's constants."""
    return asdict(config)


def latent_entry(config: ArchConfig) -> dict[str, Any]:
    """The latent space's constants."""
    return {
        "channels": config.unet.in_channels,
        "downscale": config.vae.downscale,
        "scale_factor": config.scale_factor,
    }


def contexts_entry(path: Path, config: ArchConfig, prompts: dict[str, str]) -> dict[str, Any]:
    """The precomputed contexts and the prompts they stand for."""
    return {
        "file": path.name,
        "sha256": sha256(path),
        "tokens": config.text.context_length,
        "width": config.text.width,
        "prompts": [{"tensor": name, "prompt": prompt} for name, prompt in prompts.items()],
    }


def defaults_entry(options: Defaults) -> dict[str, Any]:
    """The default options."""
    return asdict(options)


def files(document: dict[str, Any]) -> set[str]:
    """Names of every file that belongs to a bundle."""
    graphs = [g for graph in document["graphs"].values() for g in (graph, *graph["variants"])]
    entries = [document[key]["file"] for key in ("contexts", "tokenizer") if key in document]
    return {"bundle.yaml", *entries, *(name for graph in graphs for name in graph["files"])}


def write(folder: Path, document: dict[str, Any]) -> None:
    """Validates and writes `bundle.yaml`."""
    validate(document)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    (folder / "bundle.yaml").write_text(text)


def read(folder: Path) -> dict[str, Any]:
    """Reads and validates `bundle.yaml`."""
    manifest = folder / "bundle.yaml"
    if not manifest.is_file():
        raise UsageError(f"{folder}: holds no bundle.yaml")
    try:
        document = yaml.safe_load(manifest.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: {error}") from None
    validate(document)
    return document


def replace(folder: Path, new: Path, document: dict[str, Any]) -> None:
    """Moves the files in `new` into a bundle, its manifest last."""
    write(new, document)
    for file in sorted(new.iterdir(), key=lambda path: ORDER.index(path.suffix)):
        file.replace(folder / file.name)
