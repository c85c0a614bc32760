"""The notices of others' code, which every package carries."""

import platform
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

NOTICES = ROOT / "THIRD-PARTY-NOTICES.txt"


@pytest.mark.skipif(
    shutil.which("cargo") is None or sys.platform != "linux" or platform.machine() != "x86_64",
    reason="they are those of a build on Linux on x86-64",
)
def test_the_notices_are_those_of_the_crates_in_the_library():
    command = [sys.executable, ROOT / "packaging" / "notices.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_each_kind_of_licence_is_there():
    text = NOTICES.read_text(encoding="utf-8")
    for part in ["Apache License, version 2.0", "option-ext ", "Mozilla Public License", "(ISC)"]:
        assert part in text
