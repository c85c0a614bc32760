"""int8: what is chosen, what is written, and what is refused."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import EXPORT
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from diffbir_export import bundle, onnx_parts
from diffbir_export.bands import FOLDER
from diffbir_export.checkpoint import sha256
from diffbir_export.errors import ExportError, UsageError
from diffbir_export.quantize import choose, latents, layers, make, qdq, ranges, sensitivity
from diffbir_export.quantize.__main__ import LOSS
from diffbir_export.quantize.__main__ import main as command
from diffbir_export.quantize.sensitivity import Unit
from diffbir_export.variants.__main__ import main as add_variants
from diffbir_export.variants.graph import Graph
from diffbir_export.verify import compare

BUNDLE = EXPORT.parent / "tests" / "fixtures" / "bundle"
GRAPHS = ("denoiser", "vae_decoder")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Soft random pictures; one is too small, one is wide."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number, size in enumerate([(80, 64), (20, 24)]):
        cells = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        cells.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """The tests' bundle with its variants, and for the smallest pictures."""
    folder = tmp_path_factory.mktemp("varied") / "bundle"
    shutil.copytree(BUNDLE, folder)
    assert add_variants([str(folder)]) == 0
    bundle.write(folder, {**bundle.read(folder), "min_short_edge": 64})
    return folder


def complete(entry):
    """Whether a graph has all its exact variants for the CPU."""
    exact = [v for v in entry["variants"] if v["provider"] == "cpu" and v["precision"] != "int8"]
    roles = {variant.get("role", "whole") for variant in exact}
    return roles >= (
        {"whole", "control", "unet", "parts"} if entry["kind"] == "denoiser" else {"whole"}
    )


def flags(folder, pictures, *more):
    return [str(folder), "--pictures", str(pictures), "--steps", "2", *more]


@pytest.fixture(scope="module")
def quantised(varied, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised") / "bundle"
    shutil.copytree(varied, folder)
    assert command(flags(folder, pictures)) == 0
    return folder


def entries(folder):
    graphs = bundle.read(folder)["graphs"]
    return [(graphs[name], make.existing(graphs[name])) for name in GRAPHS]


def decisions(path):
    model = onnx.load(path, load_external_data=False)
    return json.loads({e.key: e.value for e in model.metadata_props}[make.KEY])


def test_what_is_listed(quantised):
    for graph, variant in entries(quantised):
        exact = latents.whole(graph)
        assert graph["variants"][-1] == variant
        assert (variant["name"], variant["provider"]) == ("cpu-int8", "cpu")
        assert variant.get("deep") == exact.get("deep")
        assert variant["shares_prefix"] == exact["shares_prefix"]
        assert variant["rewrites"].items() >= exact["rewrites"].items()
        assert variant["files"] == {variant["file"]: sha256(quantised / variant["file"])}
        assert 0 < variant["verified"][0]["relative_rms"] <= LOSS


def test_the_error_is_what_is_said(quantised, pictures):
    """With other noise it is of the same size."""
    found = latents.pictures(pictures, None)
    inputs, _ = latents.Pipeline(quantised, bundle.read(quantised), 3).run(found, seed=1)
    graph, variant = entries(quantised)[0]
    exact, int8 = (make.session((quantised / entry["file"]).read_bytes(), quantised)
                   for entry in (latents.whole(graph), variant))  # fmt: skip
    for run in inputs[0]:
        error, _ = compare(*(model.run(["output"], run)[0] for model in (int8, exact)))
        assert 0 < error < 5 * LOSS


def test_weights_stay_where_they_are(quantised):
    for graph, variant in entries(quantised):
        data = f"{graph['file']}.data"
        assert sha256(quantised / data) == sha256(BUNDLE / data)
        model = onnx.load(quantised / variant["file"], load_external_data=False)
        assert onnx_parts.data_files(model.graph.initializer) == {data}
        channels = 1024
        assert all(len(t.raw_data) <= 4 * channels for t in model.graph.initializer)


def test_layers_are_fused(quantised, tmp_path):
    """Nothing is left around them that rounds weights."""
    for graph, variant in entries(quantised):
        chosen = [name for layer in decisions(quantised / variant["file"])["layers"]
                  if layer["int8"] for name in layer["outputs"]]  # fmt: skip
        found = {layer.y: layer.op for layer in layers.find(
            Graph(quantised / latents.whole(graph)["file"]))}  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry(FOLDER, str(quantised))
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession((quantised / variant["file"]).read_bytes(), options)
        made = [n.op_type for n in onnx.load(
            tmp_path / "optimised.onnx", load_external_data=False).graph.node]  # fmt: skip
        ops = [found[y] for y in chosen]
        assert variant["rewrites"]["int8"] == len(chosen)
        assert made.count("QLinearConv") == ops.count("Conv") > 0
        assert made.count("MatMulIntegerToFloat") == ops.count("MatMul")


def test_decisions_are_written(quantised):
    for graph, variant in entries(quantised):
        told = decisions(quantised / variant["file"])
        assert told["bound"] == LOSS >= told["loss"]
        assert told["of"] == make.origin(quantised, graph)
        listed = told["layers"]
        assert all(layer["saved"] > 0 and layer["error"] >= 0 for layer in listed)
        # Those that are taken come first: they cost least for what they save.
        taken = [layer["int8"] for layer in listed]
        assert taken == sorted(taken, reverse=True)
        assert len({layer["name"] for layer in listed}) == len(listed)


def test_again_changes_nothing(quantised, pictures, capsys):
    before = {path: path.stat().st_mtime_ns for path in quantised.iterdir()}
    assert command(flags(quantised, pictures)) == 0
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in quantised.iterdir()} == before
    assert all(complete(graph) for graph, _ in entries(quantised))


def test_a_smaller_loss_takes_fewer_layers(quantised, pictures, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(quantised, folder)
    loss = entries(folder)[1][1]["verified"][0]["relative_rms"] / 2
    assert command(flags(folder, pictures, "--graph", "vae_decoder", "--loss", str(loss))) == 0
    [_, (graph, variant)], (_, before) = entries(folder), entries(quantised)[1]
    assert len([v for v in graph["variants"] if v["precision"] == "int8"]) == 1
    assert variant["verified"][0]["relative_rms"] <= loss
    assert variant["rewrites"]["int8"] < before["rewrites"]["int8"]


def test_a_graph_without_variants(varied, pictures, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(varied, folder)
    document = bundle.read(folder)
    document["graphs"]["vae_decoder"]["variants"] = []
    bundle.write(folder, document)
    assert command(flags(folder, pictures, "--graph", "vae_decoder")) == 0
    graph, variant = entries(folder)[1]
    assert graph["variants"] == [variant]
    assert variant["rewrites"].keys() == {"int8"}
    assert not complete(graph)


def test_layers_of_a_deep_graph():
    """As deep as the official denoiser; a product of two activations is no layer."""
    depth = 3000
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(depth)]
    nodes += [helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
              helper.make_node("MatMul", [f"x{depth}", f"x{depth}"], ["square"]),
              helper.make_node("MatMul", ["square", "wide"], ["y"]),
              helper.make_node("MatMul", ["wide", "wide"], ["weights"]),
              helper.make_node("Add", ["y", "weights"], ["z"])]  # fmt: skip
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 4]) for n in ("x0", "z")]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float16), "w")
    model = helper.make_model(helper.make_graph(nodes, "deep", values[:1], values[1:], [weight]))
    [found] = layers.find(Graph(EXPORT / "deep.onnx", model))
    assert found == layers.Layer("MatMul", "square", "wide", "y")


def test_a_layer_alone(varied):
    """Its error is that of the graph in which it alone is in 8 bits."""
    graph = Graph(varied / "vae_decoder.cpu.onnx")
    found = layers.find(graph)
    inputs = {"latent": np.random.default_rng(2).standard_normal((1, 4, 8, 8)).astype(np.float32)}
    seen = ranges.Ranges()
    values = ranges.Watch(graph, found).run(inputs)
    seen.add(values, {name for layer in found for name in layer.rounded})
    scales = qdq.Scales(seen.scales(), layers.channel_scales(graph, found))
    units = sensitivity.Pass(graph, found, scales).run(inputs, lambda *_: None)
    for unit in units[:: max(1, len(units) // 4)]:
        part = graph.copy()
        qdq.insert(part, list(unit.layers), scales)
        output = make.session(part.finish().SerializeToString(), varied).run(None, inputs)[0]
        error, _ = compare(output, values["image"])
        assert error == pytest.approx(unit.error, rel=0.1, abs=1e-6)


def unit(number, error, saved=1):
    return Unit((layers.Layer("Conv", "x", f"layer.{number}.weight", f"y{number}"),), error, saved)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("bound", [0.005, 0.03, 10.0])
def test_the_loss_is_honoured(factor, bound):
    units = [unit(i, error) for i, error in enumerate(np.geomspace(0.1, 1e-4, 60))]
    tried = []

    def measure(chosen):
        tried.append(len(chosen))
        return factor * choose.predicted(chosen)[-1]

    chosen, loss = choose.choose(units, bound, measure, "graph")
    assert loss == measure(chosen) <= bound
    assert [u.error for u in chosen] == sorted(u.error for u in units)[: len(chosen)]
    if len(chosen) < len(units):
        assert measure(choose.ordered(units)[: len(chosen) + 1]) > bound
    assert len(tried) <= choose.TRIES + 2


def test_what_saves_more_goes_first():
    cheap, dear = unit(0, 0.02, saved=100), unit(1, 0.01, saved=1)
    assert choose.ordered([dear, cheap]) == [cheap, dear]


def test_no_layer_fits():
    with pytest.raises(ExportError, match=r"no layer can be quantised within a loss of 1e-05"):
        choose.choose([unit(0, 0.1)], 1e-5, lambda _: 0.1, "denoiser.onnx")


@pytest.mark.parametrize("parameterization", ["eps", "v"])
@pytest.mark.parametrize("guided", [False, True])
def test_the_sampler_ends_at_what_the_model_sees(parameterization, guided):
    diffusion = {"timesteps": 1000, "linear_start": 0.00085, "linear_end": 0.012,
                 "zero_snr": False, "parameterization": parameterization}  # fmt: skip
    alphas = latents.alphas_cumprod(diffusion)
    wanted = np.random.default_rng(3).standard_normal((1, 4, 8, 8)).astype(np.float32)

    class Oracle:
        def run(self, _, inputs):
            a = alphas[int(inputs["timestep"][0])]
            eps = (inputs["x"] - a**0.5 * wanted) / (1 - a) ** 0.5
            v = a**0.5 * eps - (1 - a) ** 0.5 * wanted
            return [np.repeat(v if parameterization == "v" else eps, 1 + guided, axis=0)]

    pipeline = latents.Pipeline.__new__(latents.Pipeline)
    pipeline.steps, pipeline.contexts = 5, np.zeros((1 + guided, 77, 8), np.float32)
    pipeline.document = {"diffusion": diffusion, "defaults": {"cfg_scale": 4.0}}
    pipeline.denoiser = {"precision": "fp32", "variants": [
        {"provider": "cpu", "precision": "fp32", "shares_prefix": True}]}  # fmt: skip
    seen, found = pipeline.sample(Oracle(), wanted, np.random.default_rng(4))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert [int(inputs["timestep"][0]) for inputs in seen] == [999, 749, 500, 250, 0]


def test_a_schedule_that_ends_without_signal():
    diffusion = {"timesteps": 1000, "linear_start": 0.00085, "linear_end": 0.012}
    plain, zero = (latents.alphas_cumprod({**diffusion, "zero_snr": z}) for z in (False, True))
    assert zero[-1] == 0 < plain[-1]
    assert zero[0] == pytest.approx(plain[0])


@pytest.mark.parametrize("shares_prefix", [False, True])
def test_runs_as_one_batch(shares_prefix):
    runs = [{"x": np.full((1, 4, 2, 2), i), "context": np.arange(2).reshape(2, 1, 1),
             "strength": np.ones(13)} for i in range(3)]  # fmt: skip
    found = make.batch(runs, shares_prefix)
    rows = [0, 1, 2] if shares_prefix else [0, 1, 2, 0, 1, 2]
    assert found["x"][:, 0, 0, 0].tolist() == rows
    assert found["context"].ravel().tolist() == [0, 0, 0, 1, 1, 1]
    assert len(found["strength"]) == 13


def test_refusals(varied, pictures, tmp_path, capsys):
    def refused(folder, *more):
        assert command(flags(folder, pictures, *more)) == UsageError.exit_code
        return capsys.readouterr().err

    assert "holds no bundle.yaml" in refused(tmp_path)
    assert "is no folder" in refused(varied, "--pictures", str(tmp_path / "none"))
    assert "holds no picture" in refused(varied, "--pictures", str(tmp_path))
    (tmp_path / "broken.png").write_text("no picture")
    assert "broken.png" in refused(varied, "--pictures", str(tmp_path))
    folder = tmp_path / "bundle"
    shutil.copytree(varied, folder)
    document = bundle.read(folder)
    for name in GRAPHS:
        document["graphs"][name] |= {"precision": "fp16", "variants": []}
    bundle.write(folder, document)
    assert "has no graph in fp32 of kind denoiser or vae_decoder" in refused(folder)
    for name in GRAPHS:
        del document["graphs"][name]
    bundle.write(folder, document)
    assert "has no graph" in refused(folder)
    with pytest.raises(SystemExit):
        command(flags(varied, pictures, "--loss", "0"))


def test_a_bundle_with_weights_inside_is_told_what_to_do(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("diffbir_export.quantize.__main__.Source",
                        lambda _: SimpleNamespace(inline=True))  # fmt: skip
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    assert command(flags(tmp_path / "bundle", pictures)) == UsageError.exit_code
    assert "diffbir_export.variants" in capsys.readouterr().err
