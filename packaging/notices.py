"""Writes THIRD-PARTY-NOTICES.txt: whose code is in the program and the libraries.

    python packaging/notices.py [--check]

The crates are those that `cargo metadata` resolves for a build of all features on Linux; what runs
only while building (build scripts, macros) and tests is left out. Where a crate leaves the choice,
Apache-2.0 is taken, the licence of this project. `--check` compares and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "THIRD-PARTY-NOTICES.txt"
PLATFORM = "x86_64-unknown-linux-gnu"
TEXTS = re.compile(r"(?i)^(licen[cs]e|copying|unlicense|notice|copyright)")
RULE = "=" * 100
START = """\
diffbir contains code of others, of these Rust crates. It is written by packaging/notices.py.
"""
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
APACHE = """\
Under the Apache License, version 2.0, whose text is in the file LICENSE. The Rust standard library,
which is part of every program in Rust, is under it too.
"""


def metadata() -> dict[str, Any]:
    """What cargo resolves, without the network: a build has fetched it."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline",
               "--all-features", f"--filter-platform={PLATFORM}"]  # fmt: skip
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(cargo: dict[str, Any]) -> list[dict[str, Any]]:
    """The packages that end up in the library, without this one."""
    packages = {package["id"]: package for package in cargo["packages"]}
    nodes = {node["id"]: node for node in cargo["resolve"]["nodes"]}
    root = cargo["resolve"]["root"]
    seen, waiting = {root}, [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            name = dependency["pkg"]
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            macro = any("proc-macro" in target["kind"] for target in packages[name]["targets"])
            if None in kinds and not macro and name not in seen:
                seen.add(name)
                waiting.append(name)
    found = [packages[name] for name in seen - {root}]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def texts(package: dict[str, Any], notices: bool) -> list[str]:
    """The texts of its files on licences; only notices of copyright if so."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and TEXTS.match(path.name))
    if notices:
        files = [path for path in files if path.name.lower().startswith("notice")]
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in files]


def is_apache(package: dict[str, Any]) -> bool:
    """Whether Apache-2.0 may be chosen."""
    choices = re.split(r" OR |/", package["license"] or "")
    return "Apache-2.0" in choices and " AND " not in package["license"]


def stand_in(package: dict[str, Any], packages: list[dict[str, Any]]) -> list[str]:
    """For a crate without a file on its licence: that of a crate of the same repository, or MIT."""
    for other in packages:
        same = [other[key] == package[key] for key in ("repository", "license")]
        if all(same) and (found := texts(other, notices=False)):
            return found
    if package["license"] != "MIT":
        raise SystemExit(f"{package['name']}: no licence file in {package['manifest_path']}")
    holders = ", ".join(package["authors"]) or f"the authors of {package['repository']}"
    return [f"Copyright (c) {holders}\n\n{MIT}"]


def written() -> str:
    """The whole file."""
    packages = linked(metadata())
    sections = [START, APACHE]
    apache = [package for package in packages if is_apache(package)]
    sections[1] += "\n" + "\n".join(f"  {p['name']} {p['version']}" for p in apache) + "\n"
    for package in packages:
        found = texts(package, notices=is_apache(package))
        if not is_apache(package) and not found:
            found = stand_in(package, packages)
        if found:
            title = f"{package['name']} {package['version']} ({package['license']})"
            place = package["repository"] or "https://crates.io/crates/" + package["name"]
            sections.append("\n\n".join([f"{title}\n{place}", *found]) + "\n")
    lines = f"\n{RULE}\n\n".join(sections).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    """Write, or compare."""
    p = argparse.ArgumentParser(prog="notices.py", description=__doc__.split("\n")[0])
    p.add_argument("--check", action="store_true", help="compare the file, and write nothing")
    text = written()
    if not p.parse_args().check:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name} is out of date: run python packaging/notices.py")


if __name__ == "__main__":
    main()
