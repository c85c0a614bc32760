"""int8 variants: in the program, and the script that times them."""

import shutil

import pytest
from test_compare import ROOT, needs_program

import int8
import losses


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """The tests' bundle with an int8 denoiser."""
    from diffbir_export.quantize.__main__ import main

    folder = tmp_path_factory.mktemp("int8") / "bundle"
    shutil.copytree(ROOT / "tests/fixtures/bundle", folder)
    pictures = ROOT / "onnx/demo/pictures"
    assert main([str(folder), "--pictures", str(pictures), "--limit", "1", "--steps", "2",
                 "--graph", "denoiser", "--loss", "0.05"]) == 0  # fmt: skip
    return folder


@needs_program
def test_the_program_runs_them_where_it_is_told_to(quantised, capsys):
    setting = "runtime.int8=true"
    code = losses.main(["--bundle", str(quantised), "--steps", "3", "--threads", "1",
                        "--set", setting])  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out.strip().split("\n\n")[-1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed[2:]]
    found = {name: float(latent) for name, _, _, _, latent, _ in rows}
    assert found["exact, again"] == 0
    # Rounded, and no more than was allowed in each of three steps.
    assert 1e-4 < found[setting] < 0.15


def test_exact_and_int8_take_turns(quantised, capsys, monkeypatch):
    argv = ["int8.py", "--bundle", str(quantised), "--graph", "denoiser", "--size", "64"]
    monkeypatch.setattr("sys.argv", [*argv, "--turns", "1"])
    int8.main()
    assert "denoiser" in capsys.readouterr().out
