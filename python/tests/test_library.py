"""The native library: what it is found by, and whether it is what the header says."""

import ctypes
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import diffbir
from diffbir import _library

HEADER = (ROOT / "include" / "diffbir.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)


def test_every_function_of_the_header_but_these_is_declared():
    declared = {*_library._PLAIN, *_library._FALLIBLE}
    declared |= {name.removeprefix("diffbir_") for name in _library._INITS.values()}
    said = set(re.findall(r"\bdiffbir_(\w+)\(", CODE))
    # A test's hook, and what the others do as well.
    assert said - declared == {"test_panic", "request_run", "restore_file", "error_smallest_budget"}
    assert declared <= said


def test_codes_and_events_are_the_headers():
    def values(prefix):
        found = re.findall(rf"{prefix}_(\w+) = (\d+)", CODE)
        return {name: int(value) for name, value in found}

    codes = values("DIFFBIR_CODE")
    assert codes.pop("OK") == 0
    assert {code.name: int(code) for code in diffbir.Code} == codes
    assert {event.name: int(event) for event in diffbir.Event} == values("DIFFBIR_EVENT")


@pytest.mark.parametrize(
    ("structure", "name", "size"),
    [
        (_library.EngineOptions, "engine_options", 88),
        (_library.Options, "options", 104),
        (_library.Pixels, "pixels", 64),
        (_library.EncodeOptions, "encode_options", 32),
        (_library.Progress, "progress", 56),
    ],
)
def test_structures_are_the_headers(structure, name, size):
    body = re.search(rf"typedef struct diffbir_{name} \{{(.*?)\}}", CODE, flags=re.S)[1]
    fields = re.findall(r"(\w+);", body)
    mine = [field[0] for field in structure._fields_]
    # The header may have grown; what was there stays where it was.
    assert fields[: len(mine)] == mine
    assert ctypes.sizeof(structure) == size


@pytest.mark.parametrize("kind", [_library.EngineOptions, _library.Options, _library.Pixels])
def test_defaults_come_from_the_library(kind):
    value = _library.filled(kind)
    assert value.struct_size == ctypes.sizeof(kind)
    if kind is _library.Options:
        assert (value.seed, value.steps, value.upscale == value.upscale) == (-1, 0, False)


def test_every_code_has_a_class():
    kinds = {type(diffbir._errors.of_code(code, "x", None)) for code in diffbir.Code}
    assert len(kinds) == len(diffbir.Code)
    unknown = diffbir._errors.of_code(99, "new", "why")
    assert (type(unknown), unknown.code, unknown.cause) == (diffbir.DiffbirError, 99, "why")


def test_a_named_library_that_is_missing_is_told(monkeypatch):
    monkeypatch.setenv("DIFFBIR_LIBRARY", "/missing/libdiffbir.so")
    with pytest.raises(diffbir.LibraryNotFoundError, match="/missing/libdiffbir") as missing:
        _library.load.__wrapped__()
    assert missing.value.code is None


def test_another_library_is_no_diffbir(monkeypatch):
    monkeypatch.setenv("DIFFBIR_LIBRARY", ctypes.util.find_library("c") or "libc.so.6")
    with pytest.raises(diffbir.LibraryNotFoundError, match="cannot be loaded as the diffbir"):
        _library.load.__wrapped__()


def test_no_library_at_all_is_told(monkeypatch):
    monkeypatch.delenv("DIFFBIR_LIBRARY")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(_library, "NAME", "libmissing.so")
    with pytest.raises(diffbir.LibraryNotFoundError, match="set DIFFBIR_LIBRARY"):
        _library.load.__wrapped__()


def test_a_newer_abi_is_refused(monkeypatch):
    monkeypatch.setattr(_library, "ABI_VERSION", 1000)
    with pytest.raises(diffbir.AbiError, match="1000"):
        _library.load.__wrapped__()


def test_importing_needs_no_library():
    program = "import diffbir; print(diffbir.Engine.__name__)"
    environment = {"PYTHONPATH": str(ROOT / "python"), "DIFFBIR_LIBRARY": "/missing"}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "Engine"


def test_leaving_without_closing_is_quiet(bundle):
    """An engine that is at work when the process ends is closed before the interpreter is."""
    program = (
        "import diffbir, sys, numpy\n"
        "e = diffbir.Engine(sys.argv[1])\n"
        "r = e.submit(numpy.zeros((16, 16), numpy.uint8), progress=lambda now: None)\n"
        "s = e.submit(numpy.zeros((16, 16), numpy.uint8), progress=lambda now: None)\n"
    )
    command = [sys.executable, "-c", program, str(bundle)]
    environment = {"PYTHONPATH": str(ROOT / "python"), "DIFFBIR_LIBRARY": _library.load()._name}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("asked", "set_to"), [(None, "1"), ("", "1"), ("no", "1"), ("0", "0")])
def test_telemetry_is_off_unless_it_is_left_on(asked, set_to):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    if asked is not None:
        environment["ORT_DISABLE_TELEMETRY"] = asked
    program = "import diffbir, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == set_to
