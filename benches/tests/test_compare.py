import json
import os
import subprocess
from pathlib import Path

import pytest

import compare
import markdown

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/fixtures/bundle"
PROGRAM = Path(os.environ.get("DIFFBIR_PROGRAM", ROOT / "target/release/diffbir"))

needs_program = pytest.mark.skipif(
    not PROGRAM.is_file() or subprocess.run([PROGRAM, "doctor"], capture_output=True).returncode,
    reason="the program is not built, or finds no ONNX Runtime",
)


@needs_program
def test_both_sides_agree_and_are_told_as_a_table(tmp_path, capsys):
    out = tmp_path / "out.json"
    code = compare.main(["--bundle", str(TINY), "--arch-config", str(ROOT / "export/demo-arch"),
                         "--diffbir", str(PROGRAM), "--steps", "2", "--turns", "2",
                         "--cfg-scale", "4", "--threads", "1", "--no-peaks", "--also",
                     "one-at-a-time", "low-memory",
                         "--json", str(out)])  # fmt: skip
    assert code == 0
    record = json.loads(out.read_text())
    assert max(record["relative_rms"].values()) < 1e-3
    assert record["relative_rms"]["x_t"] == 0
    assert record["compared"].startswith("PyTorch")
    assert set(record["sides"]) == {
        "PyTorch, cond and uncond in one batch", "PyTorch, one after the other", "diffbir",
        "diffbir, one graph at a time", "diffbir, low memory",
    }  # fmt: skip
    assert all(len(runs) == 2 for runs in record["runs"].values())
    assert record["macs"]["sampling"] == 2 * record["macs"]["step"]
    printed = capsys.readouterr().out
    for part in markdown.NAMES.values():
        assert f"| {part} |" in printed


@needs_program
def test_other_weights_are_refused(tmp_path):
    import yaml

    other = tmp_path / "bundle"
    other.mkdir()
    for file in TINY.iterdir():
        (other / file.name).symlink_to(file)
    described = yaml.safe_load((TINY / "bundle.yaml").read_text())
    described["weights"]["seed"] += 1
    (other / "bundle.yaml").unlink()
    (other / "bundle.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(SystemExit, match="not the same weights"):
        compare.main(["--bundle", str(other), "--arch-config", str(ROOT / "export/demo-arch"),
                      "--diffbir", str(PROGRAM), "--steps", "2", "--threads", "1"])  # fmt: skip


def test_sizes_at_which_something_is_resized_are_refused():
    with pytest.raises(SystemExit, match="multiple of 64"):
        compare.main(["--bundle", str(TINY), "--size", "300"])
    with pytest.raises(SystemExit, match="at least 256"):
        compare.main(["--bundle", str(TINY), "--size", "192"])
