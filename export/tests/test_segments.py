"""Autoencoder graphs in segments, and how far cleaners see."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import EXPORT
from helpers import relative_rms
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from diffbir_export import bands, graph, segments, verify
from diffbir_export.config import RRDBNetConfig
from diffbir_export.contracts import Contract
from diffbir_export.errors import ExportError, VerificationError
from diffbir_export.models.rrdbnet import RRDBNet
from diffbir_export.models.swinir import SwinIR

BUNDLE = EXPORT.parent / "tests" / "fixtures" / "bundle"
INPUTS = {"vae_encoder": (1, 3, 72, 40), "vae_decoder": (1, 4, 9, 5)}


def parts_of(folder, name):
    return bands.Segments(folder / f"{name}.segments.safetensors", folder)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_bands_make_the_whole(name, rows):
    picture = np.random.default_rng(3).standard_normal(INPUTS[name]).astype(np.float32)
    parts = parts_of(BUNDLE, name)
    [wanted] = verify.session(BUNDLE / f"{name}.onnx").run(None, {parts.plan["input"]: picture})
    assert relative_rms(parts.run(picture, rows), wanted) < 1e-5


def test_the_plan():
    steps = {name: parts_of(BUNDLE, name).plan["steps"] for name in INPUTS}
    canvases = parts_of(BUNDLE, "vae_decoder").plan["canvases"]
    assert canvases["latent"] == {"channels": 4, "scale": [1, 1]}
    assert canvases["image"] == {"channels": 3, "scale": [8, 1]}
    latent = parts_of(BUNDLE, "vae_encoder").plan["canvases"]["latent"]
    assert latent == {"channels": 4, "scale": [1, 8]}
    for plan_steps in steps.values():
        assert plan_steps[0]["norm"] is None
        assert all(s["norm"]["canvas"] == s["bands"][0] for s in plan_steps if s["norm"])
        [qkv] = [s for s in plan_steps if len(s["outputs"]) == 3]
        [attend] = [s for s in plan_steps if s["whole"]]
        assert attend["bands"] == [qkv["outputs"][0], *qkv["bands"]]
        assert attend["whole"] == qkv["outputs"][1:]
        assert {s["halo"] for s in plan_steps} == {0, 1, 2}


def test_keys_and_values_may_be_smaller():
    parts = parts_of(BUNDLE, "vae_decoder")
    [step] = [s for s in parts.plan["steps"] if s["whole"]]
    model = bands.session(parts.graphs[step["graph"]], BUNDLE)
    channels = parts.plan["canvases"][step["bands"][0]]["channels"]
    rng = np.random.default_rng(0)
    q, x = rng.standard_normal((2, 1, channels, 6, 8)).astype(np.float32)
    k, v = rng.standard_normal((2, 1, channels, 3, 4)).astype(np.float32)
    doubled = [np.repeat(np.repeat(a, 2, 2), 2, 3) for a in (k, v)]
    runs = [model.run(None, {"band_0": q, "band_1": x, "whole_0": a, "whole_1": b})[0]
            for a, b in ((k, v), doubled)]  # fmt: skip
    assert relative_rms(*runs) < 1e-5


def test_weights_are_stored_once():
    for name in INPUTS:
        data, parts = BUNDLE / f"{name}.onnx.data", BUNDLE / f"{name}.segments.safetensors"
        assert parts.stat().st_size < data.stat().st_size / 2
        assert f"{name}.onnx.data".encode() in parts.read_bytes()


def test_wrong_segments_are_refused(tmp_path):
    name = "vae_decoder.segments.safetensors"
    with safe_open(BUNDLE / name, "numpy") as file:
        changed = json.loads(file.metadata()["plan"])
    changed["steps"][1]["halo"] = 0
    save_file(load_file(BUNDLE / name), tmp_path / name, {"plan": json.dumps(changed)})
    with pytest.raises(VerificationError, match=r"segments\.safetensors: relative RMS"):
        segments.check(BUNDLE / "vae_decoder.onnx", tmp_path / name, "fp32")


def test_a_graph_of_another_kind_is_not_cut(tmp_path):
    with pytest.raises(ExportError, match="cannot be cut"):
        segments.write(BUNDLE / "vae_decoder_vjp.onnx", tmp_path)


def reach_of(network, height, row):
    """Distances of the furthest input rows, below and above, that output row `row` depends on."""
    image = torch.rand(1, 3, height, 64, requires_grad=True)
    network(image)[0, :, row].sum().backward()
    [rows] = image.grad.abs().amax((0, 1, 3)).nonzero(as_tuple=True)
    return int(rows.max()) - row, row - int(rows.min())


@pytest.mark.parametrize("depths", [(2,), (3, 1)])
def test_halo_of_swinir_is_exact(tiny, depths):
    torch.manual_seed(0)
    network = SwinIR(replace(tiny.swinir, depths=depths, num_heads=(2,) * len(depths)))
    assert (network.multiple, network.scale) == (64, 1)
    # Of a period of windows, pixels at its ends or in its middle see furthest.
    found = [max(reach_of(network, 576, row)) for row in (256, 287, 288, 319)]
    assert max(found) == network.halo


def test_a_tile_with_its_halo_equals_the_whole(tiny):
    torch.manual_seed(0)
    network = SwinIR(tiny.swinir).eval()
    image = torch.rand(1, 3, 512, 64)
    halo = -(-network.halo // 64) * 64
    with torch.inference_mode():
        whole = network(image)[:, :, 192:320]
        tile = network(image[:, :, 192 - halo : 320 + halo])[:, :, halo : halo + 128]
        near = network(image[:, :, 128:384])[:, :, 64:192]
    assert relative_rms(tile.numpy(), whole.numpy()) < 1e-6
    assert relative_rms(near.numpy(), whole.numpy()) > 1e-7


@pytest.mark.parametrize(("sf", "unshuffle"), [(1, 1), (2, 1), (4, 1), (2, 2), (1, 4)])
def test_halo_of_rrdbnet_is_exact(sf, unshuffle):
    torch.manual_seed(0)
    network = RRDBNet(
        RRDBNetConfig(in_nc=3, out_nc=3, nf=8, nb=1, gc=4, sf=sf, unshuffle=unshuffle)
    )
    image = torch.rand(1, 3, 192, 4, requires_grad=True)
    reached = []
    for row in range(96 * sf, (96 + unshuffle) * sf):
        [gradient] = torch.autograd.grad(network(image)[0, :, row].sum(), image)
        [rows] = gradient.abs().amax((0, 1, 3)).nonzero(as_tuple=True)
        reached += [int(rows.max()) - row // sf, row // sf - int(rows.min())]
    assert max(reached) == network.halo


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize("sf", [1, 2, 4])
def test_bands_of_rrdbnet_make_the_whole(tiny, tmp_path, sf, rows):
    torch.manual_seed(0)
    network = RRDBNet(RRDBNetConfig(in_nc=3, out_nc=3, nf=8, nb=2, gc=4, sf=sf)).eval()
    contract = Contract("cleaner", 1, sf, tiny, ((40, 56),))
    model = graph.trace(network, contract)
    graph.strip(model)
    whole, *_ = graph.save(model, tmp_path / "cleaner.onnx", beside=True)
    parts = bands.Segments(segments.write(whole, tmp_path), tmp_path)
    # The first convolution, the first block in four, the second one, what is behind, each doubling.
    assert len(parts.plan["steps"]) == {1: 8, 2: 8, 4: 9}[sf]
    assert max(step["halo"] for step in parts.plan["steps"]) == 15
    picture = np.random.default_rng(3).random((1, 3, 23, 17), np.float32)
    [wanted] = verify.session(whole).run(None, {"image": picture})
    assert relative_rms(parts.run(picture, rows), wanted) < 1e-6
