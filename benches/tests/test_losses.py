"""The script that measures what approximations lose."""

from test_compare import PROGRAM, ROOT, needs_program

import losses


@needs_program
def test_settings_and_bundles_are_held_against_the_exact_run(capsys):
    demo = ROOT / "onnx/demo"
    code = losses.main(["--bundle", str(demo), "--diffbir", str(PROGRAM), "--steps", "4",
                        "--threads", "1", "--set", "sampling.deep_reuse=0.9",
                        "--set", "sampling.control_reuse=0.9;runtime.memory=sequential",
                        "--bundle-too", str(demo)])  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out.strip().split("\n\n")[-1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed[2:]]
    found = {name: (float(latent), db) for name, _, _, _, latent, db in rows}
    assert found["exact"] == found["exact, again"] == found["demo"] == (0, "same")
    for name in ("sampling.deep_reuse=0.9", "sampling.control_reuse=0.9;runtime.memory=sequential"):
        latent, db = found[name]
        assert 1e-3 < latent < 1 and 20 < float(db) < 70


@needs_program
def test_a_program_that_refuses_is_an_error(capsys):
    code = losses.main(["--bundle", str(ROOT / "onnx/demo"), "--diffbir", str(PROGRAM),
                        "--set", "sampling.deep_reuse=-1", "--steps", "2"])  # fmt: skip
    assert code == 1
    assert "deep_reuse" in capsys.readouterr().err
