import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_compare import PROGRAM, needs_program

import run
from commands import Command, CommandError, run_command
from items import Item, all_items
from settings import for_gpu, for_self_test

NOWHERE = Path("/nowhere")


def fake_item(name, code):
    return Item(name, "0", name, lambda _: [Command([sys.executable, "-c", code])],
                lambda _, outputs: {"seconds": float(outputs[0].stdout)})  # fmt: skip


def do(items, out, *flags):
    out.mkdir(exist_ok=True)
    args = run.parser().parse_args(["--diffbir", "/nowhere", "--out", str(out), *flags])
    failed = run.run_all(items, for_self_test(NOWHERE, None, out), args)
    return failed, json.loads((out / "results.json").read_text())["items"]


def test_a_failed_item_is_noted_and_done_again_and_the_others_are_not(tmp_path):
    items = [fake_item("bad", "import sys; sys.exit('broken')"), fake_item("good", "print(1.5)")]
    failed, found = do(items, tmp_path)
    assert failed == 1
    assert found["bad"]["status"] == "failed" and "broken" in found["bad"]["error"]
    assert found["good"]["figures"] == {"seconds": 1.5}
    rows = (tmp_path / "results.md").read_text()
    assert "| good |" in rows and "1.500 s" in rows
    items = [fake_item("bad", "print(2)"), fake_item("good", "import sys; sys.exit(1)")]
    failed, found = do(items, tmp_path)
    assert failed == 0
    assert [found[name]["figures"]["seconds"] for name in ("bad", "good")] == [2, 1.5]
    assert do(items, tmp_path, "--again")[0] == 1


def test_what_a_command_says_last_is_kept():
    assert run_command(Command([sys.executable, "-c", "print(1)"]), 60).stdout == "1\n"
    told = Command([sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(4)"])
    with pytest.raises(CommandError, match="exit code 4: why"):
        run_command(told, 60)
    with pytest.raises(CommandError, match="no end"):
        run_command(Command([sys.executable, "-c", "import time; time.sleep(60)"]), 0.2)


def test_the_plan_names_every_item_once_and_does_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert run.main(["--diffbir", "/nowhere", "--out", str(out), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    names = [item.name for item in all_items(for_gpu(NOWHERE, None, out))]
    assert len(names) == len(set(names))
    assert all(f"{name}" in printed for name in names)
    for engine in ("torch-eager", "torch-compile", "cuda-loose", "cuda", "cuda-graph", "cuda-fused",
                   "cuda-fused-graph", "tensorrt"):  # fmt: skip
        assert f"latency-512-50-{engine}" in names
    assert (
        "--precision fp16" in printed
        and "cuda_graph" in printed
        and "configs/cuda-fp16.yaml" in printed
    )
    assert not out.exists()
    with pytest.raises(SystemExit, match="no item begins so"):
        run.main(["--diffbir", "/nowhere", "--only", "nothing"])


@needs_program
def test_everything_runs_on_the_cpu(tmp_path):
    command = [sys.executable, run.__file__, "--diffbir", PROGRAM, "--out", tmp_path, "--self-test"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    items = json.loads((tmp_path / "results.json").read_text())["items"]
    states = {name: result["status"] for name, result in items.items()}
    assert states.pop("noise") == states.pop("variants-cuda") == "skipped"
    assert set(states.values()) == {"done"}, states
    parity = items["parity-cpu"]["figures"]
    assert parity["mean_levels"] == 0 and parity["finite"]
    latency = items["latency-320-tiled-2-batch2-cuda"]["figures"]
    assert latency["pictures_per_second"] == pytest.approx(2 / latency["seconds"])
