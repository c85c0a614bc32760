import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from torchside import modules, pipeline, sampler, tiles, work
from torchside.__main__ import relative_rms

ROOT = Path(__file__).resolve().parents[2]
TINY = modules.Given(ROOT / "tests/fixtures/bundle", arch=ROOT / "export/demo-arch")
V1 = {"timesteps": 1000, "linear_start": 0.00085, "linear_end": 0.012, "zero_snr": False,
      "parameterization": "eps"}  # fmt: skip


class Small(nn.Module):
    """A convolution and a product, whose MACs can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x):
        return self.linear(self.conv(x))


def test_macs_are_those_counted_by_hand():
    conv, linear = 5 * 3 * 9 * 4 * 8, 5 * 4 * 8 * 2
    assert work.macs(Small(), torch.zeros(1, 3, 4, 8)) == conv + linear


def test_a_bundles_stages_are_counted():
    found = {name: entry.build for name, entry in modules.plans(TINY, described()).items()}
    context = described()["contexts"]
    shape = (context["tokens"], context["width"])
    macs = work.of_stages(found, 128, 1, shape)
    assert set(macs) == {"cleaner", "vae_encoder", "step", "vae_decoder"}
    assert 0 < macs["vae_encoder"] < macs["vae_decoder"]


def described():
    return modules.manifest(TINY.bundle)


def test_the_schedule_is_the_programs():
    assert sampler.timesteps(1000, 5) == [0, 250, 500, 749, 999]
    found = list(sampler.steps(V1, 5))
    assert [step.timestep for step in found] == [999, 749, 500, 250, 0]
    assert found[-1].sigma == 0
    assert found[0].x0_from_output == pytest.approx(14.6146, abs=1e-4)
    zero = {**V1, "zero_snr": True, "parameterization": "v"}
    first = next(iter(sampler.steps(zero, 5)))
    assert (first.x0_from_x, first.x0_from_output) == pytest.approx((0, 1))


def test_tiles_of_a_picture_give_back_what_each_cell_gives():
    x = torch.rand(1, 4, 20, 33)
    grid = tiles.Grid(x.shape[-2:], 16, 8, "cpu")
    assert grid.rows == [0, 4] and grid.columns == [0, 8, 16, 17]
    found = grid.blend(lambda rows, columns: 2 * x[..., rows, columns], x)
    assert torch.allclose(found, 2 * x, atol=1e-6)


@pytest.mark.parametrize("cfg_scale", [1.0, 4.0])
def test_one_batch_and_one_after_the_other_agree(cfg_scale):
    loaded = modules.load(TINY)
    lq = torch.rand(1, 3, 128, 128)
    plain, _ = pipeline.restore(loaded, lq, pipeline.Options(2, cfg_scale))
    modules.use_sdpa(loaded)
    for batched in (True, False):
        options = pipeline.Options(2, cfg_scale, batched=batched)
        found, record = pipeline.restore(loaded, lq, options)
        assert relative_rms(found["decoded"], plain["decoded"]) < 1e-4
        assert len(record["steps"]) == 2
        assert record["whole"] == pytest.approx(sum(record["stages"].values()))


def test_the_process_speaks_json_lines():
    command = [sys.executable, "-m", "torchside", "--bundle", TINY.bundle, "--arch-config",
               TINY.arch, "--size", "128", "128", "--steps", "2", "--threads", "1"]  # fmt: skip
    paths = f"{ROOT / 'benches'}:{ROOT / 'export'}"
    found = subprocess.run(command, input="batched\nseparate\nfloor\n", text=True, check=True,
                           capture_output=True, env={"PYTHONPATH": paths})  # fmt: skip
    records = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert [record["event"] for record in records] == ["ready", "run", "run", "run"]
    assert records[0]["threads"] == 1
    assert records[3]["macs_per_second"] > 0


def test_a_reference_that_cannot_be_imported_is_told(tmp_path):
    from torchside import reference

    with pytest.raises(SystemExit, match="cannot be imported"):
        reference.put_in_place(modules.load(TINY), TINY, tmp_path)
