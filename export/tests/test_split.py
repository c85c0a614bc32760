"""`--split`: control.onnx and unet.onnx in a row equal the fused denoiser."""

from dataclasses import replace

import pytest
import torch
from helpers import Graphs, relative_rms

from diffbir_export import build, plan
from diffbir_export.contracts import CONTROLS
from diffbir_export.weights import RandomWeights, fill, on_meta


@pytest.fixture(scope="module")
def plans(tiny):
    """Attention in the middle block only: tracing is most of the time here."""
    sizes = replace(
        tiny,
        unet=replace(tiny.unet, attention_resolutions=()),
        control=replace(tiny.control, attention_resolutions=()),
    )
    return {p.name: p for p in plan.denoiser_plans(sizes, split=True)}


def test_split_equals_fused(plans, tmp_path):
    weights = RandomWeights(0)
    request = plan.Request("v1", plans["unet"].contract.config, tmp_path, {}, seed=0)
    for name in ("control", "unet"):
        entry = build.export_graph(plans[name], request, weights, tmp_path, print)
        assert len(entry["verified"]) == 4
    fused = plans["denoiser"]
    feed = fused.contract.example(3, 8, 32, seed=3)
    with torch.inference_mode():
        module = fill(on_meta(fused.build), fused.keys, weights, False)
        wanted = module(*feed.values()).numpy()
    feed = {name: value.numpy() for name, value in feed.items()}
    graphs = Graphs(tmp_path)
    controls = dict(zip(CONTROLS, graphs.run("control", **feed), strict=True))
    shared = {name: feed[name] for name in ("x", "timestep", "context")}
    [found] = graphs.run("unet", **shared, **controls)
    assert relative_rms(found, wanted) < 1e-5
