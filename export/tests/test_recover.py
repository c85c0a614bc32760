"""A bundle's graphs give back the weights they were made of."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from diffbir_export import plan  # noqa: E402
from diffbir_export.build import export_graph, load_module  # noqa: E402
from diffbir_export.weights import RandomWeights  # noqa: E402
from train import bundle, loop, networks, recover  # noqa: E402
from train.stages import STAGES  # noqa: E402

SCALE = 0.5


class Weights(RandomWeights):
    """Equal biases everywhere, which a graph stores once."""

    def tensor(self, source, shape):
        value = super().tensor(source, shape)
        return torch.zeros_like(value) if source.key.endswith(".bias") else value


@pytest.fixture(scope="module")
def arch(tiny):
    """Attention in the middle block only: tracing is most of the time here."""
    return replace(
        tiny,
        diffusion=networks.load_arch().diffusion,
        scale_factor=SCALE,
        unet=replace(tiny.unet, attention_resolutions=()),
        control=replace(tiny.control, attention_resolutions=()),
    )


@pytest.fixture(scope="module")
def request_(arch, tmp_path_factory):
    return plan.Request("custom", arch, tmp_path_factory.mktemp("graphs"), {}, seed=0,
                        tasks=("sr",), storage="fp16", text_encoder=False)  # fmt: skip


@pytest.fixture(scope="module")
def wanted(request_):
    """Graph name -> weights; the graphs are written to `request_.out`."""
    weights, result = Weights(0), {}
    for entry in plan.graph_plans(request_):
        export_graph(entry, request_, weights, request_.out, print)
        result[entry.name] = load_module(entry, weights, "fp16").state_dict()
    (request_.out / "bundle.yaml").write_text(f"latent: {{scale_factor: {SCALE}}}\n")
    return result


@pytest.fixture(scope="module")
def found(request_, wanted, arch):
    return recover.recover(request_.out, replace(arch, scale_factor=1.0))


def test_weights_come_back_exactly(found, wanted):
    assert found.keys() == wanted.keys()
    for name, state in wanted.items():
        assert found[name].keys() == state.keys()
        assert all(torch.equal(found[name][key], value) for key, value in state.items())


def test_another_architecture_is_refused(request_, wanted, arch):
    del wanted  # its graphs are there now
    deeper = replace(arch, swinir=replace(arch.swinir, depths=(*arch.swinir.depths, 2),
                                          num_heads=(*arch.swinir.num_heads, 2)))  # fmt: skip
    with pytest.raises(ValueError, match="not the graph"):
        recover.recover(request_.out, deeper)


def test_a_recovered_run_can_be_gone_on_with(found, arch, tmp_path):
    recover.write(recover.modules(arch, found), tmp_path)
    (tmp_path / bundle.RECOVERED_SCALE).write_text(f"{SCALE}\n")
    for name in STAGES:
        state = loop.read(tmp_path, name)
        assert state["step"] == 0
        assert all(torch.equal(state["model"][k], v) for k, v in state["ema"].items())
    assert loop.read(tmp_path, "unet")["parents"] == [["vae", 0], ["cleaner", 0]]
    assert bundle.factor_of(tmp_path) == SCALE
    cleaner = bundle.averaged(tmp_path, arch)[1]
    for name, value in found["cleaner_sr"].items():
        assert torch.equal(cleaner.state_dict()[name], value)
    with pytest.raises(SystemExit, match="exists"):
        recover.write(recover.modules(arch, found), tmp_path)
