"""`--guidance-graph`: the decoder's reverse pass against torch's autograd and the reference's."""

import numpy as np
import onnx
import pytest
import torch
from conftest import TINY
from helpers import Graphs, relative_rms
from safetensors.numpy import load_file

from diffbir_export import build, bundle, cli, config, plan
from diffbir_export.models.reverse import autograd_vjp
from diffbir_export.weights import CheckpointWeights, RandomWeights, Weights, fill, on_meta

NAME = "vae_decoder_vjp"


def request(sizes, out, **changes):
    return plan.Request("v1", sizes, out, {}, seed=0, guidance_graph=True, **changes)


def the_plan(asked):
    [chosen] = [p for p in plan.graph_plans(asked) if p.name == NAME]
    return chosen


def write(sizes, weights: Weights, out, **changes):
    asked = request(sizes, out, **changes)
    return build.export_graph(the_plan(asked), asked, weights, out, lambda line: None)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """The graph as a bundle of half precision has it."""
    out = tmp_path_factory.mktemp(NAME)
    entry = write(tiny, RandomWeights(0), out, precision="fp16", storage="fp16")
    return out, entry


def module_and_feed(tiny, batch, height, width, half):
    chosen = the_plan(request(tiny, TINY))
    module = fill(on_meta(chosen.build), chosen.keys, RandomWeights(0), half)
    return module, chosen.contract.example(batch, height, width, seed=4)


@pytest.mark.parametrize("size", [(1, 5, 7), (2, 3, 4)])
def test_the_rules_are_the_derivatives(tiny, size):
    """In f64, where nothing hides behind rounding."""
    module, feed = module_and_feed(tiny, *size, half=False)
    latent, cotangent = (value.double() for value in feed.values())
    module.double()
    _, gradient = module(latent, cotangent)
    _, wanted = autograd_vjp(lambda z: module(z, cotangent)[0], latent, cotangent)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 11, 5), (2, 1, 6)])
def test_against_autograd(folder, tiny, size):
    """At sizes and batches that were neither traced nor verified."""
    module, feed = module_and_feed(tiny, *size, half=True)
    found = Graphs(folder[0]).run(NAME, **{k: v.numpy() for k, v in feed.items()})
    for output, wanted in zip(found, module.reference(*feed.values()), strict=True):
        assert relative_rms(output, wanted.numpy()) < 1e-5


def test_every_picture_has_its_own_gradient(folder, tiny):
    """A batch is pulled back picture by picture; a cotangent of zero gives zero."""
    _, feed = module_and_feed(tiny, 2, 6, 4, half=True)
    latent, cotangent = (value.numpy() for value in feed.values())
    graphs, only_first = Graphs(folder[0]), cotangent.copy()
    only_first[1] = 0
    [_, both] = graphs.run(NAME, latent=latent, cotangent=cotangent)
    [_, first] = graphs.run(NAME, latent=latent, cotangent=only_first)
    assert relative_rms(first[:1], both[:1]) < 1e-5
    assert not first[1].any()


def test_it_computes_in_f32_in_every_bundle(folder):
    out, entry = folder
    assert (entry["kind"], entry["precision"], entry["storage"]) == (NAME, "fp32", "fp16")
    assert {(row["batch"], row["height"]) for row in entry["verified"]} == {
        (1, 8), (2, 8), (1, 16), (2, 16)}  # fmt: skip
    model = onnx.load(out / entry["file"])
    assert [v.name for v in model.graph.output] == ["image", "gradient"]
    assert {o.domain for o in model.opset_import} == {""}
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        assert all(axes[i].dim_param for i in (0, 2, 3)), value.name


def test_the_schema_knows_the_kind():
    kinds = bundle.schema()["$defs"]["graph"]["properties"]["kind"]["enum"]
    assert NAME in kinds


def test_it_is_written_on_request_only():
    arguments = ["--family", "v1", "--random-weights", "0", "--arch-config", str(TINY)]
    for extra, wanted in (([], False), (["--guidance-graph"], True)):
        asked = cli.request([*arguments, *extra, "--out", "unused"])
        assert (NAME in {p.name for p in plan.graph_plans(asked)}) == wanted


@pytest.mark.parametrize("loss", ["mse", "w_mse"])
def test_the_reference_s_gradients(golden, reference_graph, loss):
    wanted = load_file(golden.parent / "guidance.safetensors")
    prefix = f"tinyvae.rgb.{loss}."
    [image, gradient] = Graphs(reference_graph).run(
        NAME, latent=wanted[prefix + "z"], cotangent=wanted[prefix + "g_rgb"]
    )
    assert relative_rms(image, wanted[prefix + "decoded"]) < 1e-4
    assert relative_rms(gradient, wanted[prefix + "grad_z"]) < 1e-4
    largest = np.abs(wanted[prefix + "grad_z"]).max()
    assert np.abs(gradient - wanted[prefix + "grad_z"]).max() < 1e-4 * largest


@pytest.fixture(scope="module")
def reference_graph(golden, tmp_path_factory):
    """The graph from the reference's tiny checkpoint."""
    out = tmp_path_factory.mktemp("golden")
    write(config.load(golden, "v2"), CheckpointWeights({"sd": golden / "sd_tiny.ckpt"}), out)
    return out
