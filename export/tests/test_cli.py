"""The command as a user types it wrongly: one line, the right exit code, nothing written."""

import pytest
import torch
from conftest import TINY

from diffbir_export import build
from diffbir_export.cli import main
from diffbir_export.errors import VerificationError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1)}, path)
    return path


def run(capsys, tmp_path, *arguments):
    out = tmp_path / "out"
    code = main(["--family", "v1", "--out", str(out), *map(str, arguments)])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]
    return code, error


def test_missing_file(capsys, tmp_path):
    code, error = run(capsys, tmp_path, "--weights", "sd=nowhere.ckpt")
    assert code == 2
    assert "nowhere.ckpt: no such file" in error


def test_unknown_role(capsys, tmp_path, file):
    code, error = run(capsys, tmp_path, "--weights", f"vae={file}")
    assert code == 2
    assert "unknown role 'vae'" in error


def test_role_twice(capsys, tmp_path, file):
    code, error = run(capsys, tmp_path, "--weights", f"sd={file}", f"sd={file}")
    assert code == 2
    assert "sd is given twice" in error


def test_no_control(capsys, tmp_path, file):
    code, error = run(capsys, tmp_path, "--weights", f"sd={file}", f"cleaner.sr={file}")
    assert code == 2
    assert "control=FILE is missing" in error


def test_no_cleaner(capsys, tmp_path, file):
    code, error = run(capsys, tmp_path, "--weights", f"sd={file}", f"control={file}")
    assert code == 2
    assert "no cleaner" in error


@pytest.mark.parametrize(
    "arguments",
    [[], ["--weights", "sd"], ["--random-weights", "-1"], ["--random-weights", "x"],
     ["--random-weights", "0", "--tasks", "deblur"], ["--random-weights", "0", "--unknown"],
     ["--random-weights", "0", "--min-short-edge", "8"],
     ["--random-weights", "0", "--arch-config", "nowhere"]],
)  # fmt: skip
def test_other_wrong_usage(capsys, tmp_path, arguments):
    assert run(capsys, tmp_path, *arguments)[0] == 2


def test_wrong_keys(capsys, tmp_path, file):
    weights = [f"{role}={file}" for role in ("sd", "control", "cleaner.sr")]
    code, error = run(capsys, tmp_path, "--arch-config", TINY, "--weights", *weights)
    assert code == 3
    assert "missing keys" in error
    assert "1 unexpected keys: a" in error


def test_unknown_configuration_key(capsys, tmp_path):
    folder = tmp_path / "arch"
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).write_text(path.read_text())
    (folder / "swinir.yaml").write_text("params: { embed_dims: 3 }")
    code, error = run(capsys, tmp_path, "--arch-config", folder, "--random-weights", "0")
    assert code == 3
    assert "unknown key 'embed_dims'" in error
    (folder / "swinir.yaml").unlink()
    code, error = run(capsys, tmp_path, "--arch-config", folder, "--random-weights", "0")
    assert code == 2
    assert "needs swinir.yaml" in error


def test_a_failed_verification_leaves_nothing(capsys, tmp_path, monkeypatch):
    def refuse(*_):
        raise VerificationError("cleaner_sr.onnx: relative RMS 1.00e+00")

    monkeypatch.setattr(build, "export_graph", refuse)
    code, error = run(capsys, tmp_path, "--arch-config", TINY, "--random-weights", "0")
    assert code == 1
    assert "relative RMS" in error


def test_a_full_folder_is_not_touched(capsys, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("x")
    for extra in ([], ["--overwrite"]):
        code = main(["--family", "v1", "--random-weights", "0", "--arch-config", str(TINY),
                     "--out", str(out), *extra])  # fmt: skip
        assert code == 2
        assert "error: --out" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (out / "precious.txt").read_text() == "x"


def test_overwrite_replaces_the_bundle_and_nothing_else(tmp_path, monkeypatch):
    """What stands beside a bundle's own files is kept. The graphs are stand-ins."""
    entry = {"kind": "cleaner", "architecture": "x", "file": "g.onnx", "precision": "fp32",
             "multiple": 1, "scale": 1, "verified": [], "variants": []}  # fmt: skip

    def stand_in(plan, request, weights, folder, log):
        (folder / f"{plan.name}.onnx").write_text("new")
        return entry | {"files": {f"{plan.name}.onnx": "0" * 64}}

    monkeypatch.setattr(build, "export_graph", stand_in)
    arguments = ["--family", "v1", "--random-weights", "0", "--arch-config", str(TINY)]
    arguments += ["--no-text-encoder", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "pictures").mkdir()
    (tmp_path / "out" / "pictures" / "a.png").write_text("x")
    (tmp_path / "out" / "denoiser.onnx").write_text("old")
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"pictures"}
    assert (tmp_path / "out" / "pictures" / "a.png").exists()
    assert (tmp_path / "out" / "denoiser.onnx").read_text() == "new"
    (tmp_path / "out" / "bundle.yaml").write_text("format: 7")
    assert main([*arguments, "--overwrite"]) == 2
    assert (tmp_path / "out" / "denoiser.onnx").read_text() == "new"


def test_families_take_their_defaults():
    from diffbir_export.config import DiffusionConfig
    from diffbir_export.families import defaults

    eps = DiffusionConfig(1000, 0.00085, 0.012)
    v = DiffusionConfig(1000, 0.00085, 0.012, zero_snr=True, parameterization="v")
    assert defaults("custom", eps) == defaults("v1", eps)
    assert defaults("custom", v) == defaults("v2.1", v)
    assert (defaults("v2", eps).steps, defaults("v2", eps).cfg_scale) == (50, 4.0)
    assert defaults("v2.1", v).sampler == "edm_dpm++_3m_sde"
