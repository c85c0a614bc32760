"""The wheel: what is in it, and that it works on its own."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from diffbir import _library

pytest.importorskip("setuptools", minversion="77")
pytest.importorskip("pip")


LICENCES = {"LICENSE", "THIRD-PARTY-NOTICES.txt"}


def build(tmp_path, environment):
    """Build a wheel of a copy: setuptools leaves its work in the source folder."""
    source = tmp_path / "python"
    ignore = shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__", "*cache")
    shutil.copytree(ROOT / "python", source, ignore=ignore)
    for name in LICENCES:
        shutil.copy(ROOT / name, tmp_path)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path]
    command = [*pip, "wheel", *flags, source]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    return wheel


@pytest.fixture
def clean(monkeypatch):
    """An environment without this repository in it."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("DIFFBIR_LIBRARY")
    return monkeypatch


def test_the_wheel_carries_the_library_and_runs_alone(tmp_path, clean, bundle):
    native = _library.load()._name
    wheel = build(tmp_path, {**os.environ, "DIFFBIR_LIBRARY": native})
    assert wheel.name.startswith("diffbir-0.1.0-py3-none-")
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    expected = {"__init__.py", "_engine.py", "_library.py", "py.typed", _library.NAME, *LICENCES}
    assert {f"diffbir/{name}" for name in expected} <= names
    assert not [name for name in names if "test" in name or "setup" in name]

    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    flags = ["--no-deps", "--no-index", "--target", target]
    subprocess.run([*pip, "install", *flags, wheel], check=True, capture_output=True)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import diffbir, numpy\n"
        "print(diffbir.__file__, diffbir._library.load()._name)\n"
        "with diffbir.Engine(sys.argv[2]) as engine:\n"
        "    result = engine.restore(numpy.zeros((16, 16), numpy.uint8), steps=2, upscale=1)\n"
        "print(result)\n"
    )
    # -I: neither the folder nor the environment is looked at.
    command = [sys.executable, "-I", "-c", program, target, bundle]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    places, result = told.stdout.splitlines()
    assert all(place.startswith(str(target / "diffbir")) for place in places.split())
    assert result == "<diffbir.Result [<diffbir.Image 16x16>]>"


def test_without_the_library_the_wheel_is_for_any_platform(tmp_path, clean):
    wheel = build(tmp_path, dict(os.environ))
    assert wheel.name == "diffbir-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as content:
        assert not [name for name in content.namelist() if name.endswith((".so", ".dll"))]
