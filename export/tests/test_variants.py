"""Variants: each rewrite against the untouched graph, their batches, files and refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from conftest import EXPORT, TINY
from helpers import relative_rms
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open

from diffbir_export import bundle, onnx_parts, share
from diffbir_export.checkpoint import sha256
from diffbir_export.cli import main
from diffbir_export.errors import ExportError, UsageError, VerificationError
from diffbir_export.variants import check, make, parts
from diffbir_export.variants.__main__ import main as command
from diffbir_export.variants.attention import attention
from diffbir_export.variants.graph import Graph
from diffbir_export.variants.halves import halves
from diffbir_export.variants.phases import phases
from diffbir_export.variants.prefix import share_prefix
from diffbir_export.variants.shallow import hand_out, shallow

BUNDLE = EXPORT.parent / "tests" / "fixtures" / "bundle"
SIZES = {"cleaner_sr": (64, 128), "vae_encoder": (72, 40), "vae_decoder": (9, 5),
         "denoiser": (40, 24)}  # fmt: skip
KINDS = {"cleaner_sr": "cleaner"}


def run(model, feed, folder=BUNDLE):
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    return check.session(data, folder).run(None, feed)


def feed_of(name, batch=1, branches=1):
    model = onnx.load(BUNDLE / f"{name}.onnx", load_external_data=False)
    return check.feed(model, batch, *SIZES[name], branches)


PLACES = {phases: "phases", attention: "attention"}


@pytest.mark.parametrize(
    ("name", "rewrite", "count"),
    [("cleaner_sr", phases, 3), ("vae_decoder", phases, 3), ("denoiser", phases, 3),
     ("vae_encoder", attention, 1), ("vae_decoder", attention, 1), ("denoiser", attention, 18)],
)  # fmt: skip
@pytest.mark.parametrize("wide", [1, 10_000])
def test_a_rewrite_alone(name, rewrite, count, wide, monkeypatch):
    monkeypatch.setattr("diffbir_export.variants.phases.WIDE", wide)
    path = BUNDLE / f"{name}.onnx"
    graph = Graph(path)
    assert make.places(graph, PLACES[rewrite]) == count
    assert rewrite(graph) == count
    assert make.places(graph, PLACES[rewrite]) == 0
    assert rewrite(graph) == 0
    feed = feed_of(name, batch=2)
    [wanted], [found] = run(path, feed), run(graph.finish(), feed)
    assert relative_rms(found, wanted) < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_a_shared_prefix(batch, branches):
    path = BUNDLE / "denoiser.onnx"
    graph = Graph(path)
    assert share_prefix(graph, {"context"}) > 0
    feed = feed_of("denoiser", batch, branches)
    [wanted] = run(path, check.repeated(feed, branches))
    [found] = run(graph.finish(), feed)
    assert len(found) == batch * branches
    assert relative_rms(found, wanted) < 1e-6
    # Row b*N+n is picture n in branch b.
    for b in range(branches):
        rows = slice(b * batch, (b + 1) * batch)
        [alone] = run(path, {**feed, "context": feed["context"][rows]})
        assert relative_rms(found[rows], alone) < 1e-6


def test_what_is_shared_is_computed_once():
    """The first convolutions and residual blocks run on the pictures, not on the branches."""
    graph = Graph(BUNDLE / "denoiser.onnx")
    share_prefix(graph, {"context"})
    behind = set()
    repeats = [n for n in graph.nodes if n.op_type == "Gather" and n.output[0].endswith("repeated")]
    waiting = [node.output[0] for node in repeats]
    while waiting:
        for node in graph.users_of(waiting.pop()):
            if node.output[0] not in behind:
                behind.update(node.output)
                waiting += node.output
    convs = [node for node in graph.nodes if node.op_type == "Conv"]
    early = [node for node in convs if node.output[0] not in behind]
    gemms = [node for node in graph.nodes if node.op_type == "Gemm"]
    assert len(convs) / 4 < len(early) < len(convs) / 2
    assert not [node for node in gemms if node.output[0] in behind]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("batch", "branches"), [(1, 1), (2, 3)])
def test_shallow_and_deep_make_the_whole(layers, batch, branches):
    path = BUNDLE / "denoiser.onnx"
    graph = Graph(path)
    hand_out(graph, "B*N", layers)
    rest = shallow(graph)
    share_prefix(graph, {"context"})
    share_prefix(rest, {"context", "deep"})
    feed = feed_of("denoiser", batch, branches)
    [wanted] = run(path, check.repeated(feed, branches))
    output, deep = run(graph.finish(), feed)
    assert len(deep) == batch * branches
    [found] = run(rest.finish(), {**feed, "deep": deep})
    assert relative_rms(output, wanted) < 1e-6
    assert relative_rms(found, wanted) < 1e-6
    assert len(rest.nodes) < len(graph.nodes) / 3
    # Other deep features, other output: they are what is taken, and not computed again.
    [other] = run(rest.finish(), {**feed, "deep": deep * 0.5})
    assert relative_rms(other, wanted) > 1e-3


def test_the_halves_have_their_contracts():
    graph = Graph(BUNDLE / "denoiser.onnx")
    control, unet = halves(graph, "B*N")
    residuals = [f"control_{i}" for i in range(13)]
    assert control.output_names == residuals and unet.output_names == ["output"]
    assert [i.name for i in unet.inputs] == ["x", "timestep", "context", *residuals]
    assert len(control.nodes) + len(unet.nodes) < len(graph.nodes) * 1.2
    feed = feed_of("denoiser", 2, 1)
    made = dict(zip(residuals, run(control.finish(), feed), strict=True))
    values = sum(value.size for value in made.values())
    assert make.left(control) == values * 4 / feed["x"].size
    taken = {name: feed[name] for name in ("x", "timestep", "context")}
    [wanted] = run(BUNDLE / "denoiser.onnx", feed)
    assert relative_rms(run(unet.finish(), taken | made)[0], wanted) < 1e-6
    # Without what the module says the output is another one.
    nothing = {name: 0 * value for name, value in made.items()}
    assert relative_rms(run(unet.finish(), taken | nothing)[0], wanted) > 1e-2


def doubling(**changes):
    """A doubling and a convolution."""
    values = {"kernel": 3, "pad": 1, "scale": 2.0, "mode": "nearest", "activation": None} | changes
    rng, k = np.random.default_rng(0), values["kernel"]
    tensors = [
        numpy_helper.from_array(rng.standard_normal((5, 4, k, k)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.standard_normal(5).astype(np.float32), "b"),
        numpy_helper.from_array(np.array([1, 1, values["scale"], 2], np.float32), "s"),
    ]
    nodes = [
        helper.make_node("Resize", ["x", "", "s"], ["up"], mode=values["mode"],
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        helper.make_node("Conv", ["up", "w", "b"], ["conv"], kernel_shape=[k, k], group=1,
                         pads=[values["pad"]] * 4, strides=[1, 1], dilations=[1, 1],
                         auto_pad="NOTSET"),
        helper.make_node(values["activation"] or "Identity", ["conv"], ["y"]),
    ]  # fmt: skip
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", c, None, None])
            for name, c in (("x", 4), ("y", 5)))  # fmt: skip
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("activation", [None, "LeakyRelu", "Relu", "Sigmoid"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3)])
@pytest.mark.parametrize("wide", [1, 10_000])
def test_phases_of_any_size(activation, size, wide, monkeypatch):
    monkeypatch.setattr("diffbir_export.variants.phases.WIDE", wide)
    model = doubling(activation=activation)
    graph = Graph(Path("doubling.onnx"), model)
    assert phases(graph) == 1
    x = np.random.default_rng(1).standard_normal((2, 4, *size)).astype(np.float32)
    [wanted], [found] = run(model, {"x": x}), run(graph.finish(), {"x": x})
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("change", [{"kernel": 1, "pad": 0}, {"pad": 2}, {"scale": 3.0},
                                    {"mode": "linear"}])  # fmt: skip
def test_other_doublings_stay(change):
    graph = Graph(Path("other.onnx"), doubling(**change))
    assert phases(graph) == 0
    assert [node.op_type for node in graph.nodes] == ["Resize", "Conv", "Identity"]


def test_derived_kernels_are_not_stored():
    for name in SIZES:
        path = BUNDLE / f"{name}.onnx"
        stored = {tensor.name for tensor in onnx.load(path).graph.initializer}
        for variant in make.variants(path, KINDS.get(name, name)):
            new = [t for t in variant.model.graph.initializer if t.name not in stored]
            assert all(len(t.raw_data) <= 32 for t in new)


def test_all_or_an_error(monkeypatch):
    monkeypatch.setitem(make.REWRITES, "vae_decoder", {"phases": lambda graph: 2})
    with pytest.raises(ExportError, match="phases were rewritten in 2 places of 3"):
        make.variants(BUNDLE / "vae_decoder.onnx", "vae_decoder")


def test_a_graph_that_does_not_know_context():
    graph = Graph(BUNDLE / "vae_decoder.onnx")
    with pytest.raises(ExportError, match="cannot be rewritten"):
        share_prefix(graph, {"context"})


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """The tests' bundle, without variants and with weights twice, after the command."""
    folder = tmp_path_factory.mktemp("completed") / "bundle"
    shutil.copytree(BUNDLE, folder)
    assert command([str(folder)]) == 0
    return folder


def test_the_command(completed):
    document = yaml.safe_load((completed / "bundle.yaml").read_text())
    bundle.validate(document)
    names = {name: [v["name"] for v in graph["variants"]]
             for name, graph in document["graphs"].items()}  # fmt: skip
    assert names == {"cleaner_sr": ["cpu"], "vae_encoder": ["cpu"], "vae_decoder": ["cpu"],
                     "vae_decoder_vjp": [],
                     "denoiser": ["cpu", "cpu-shallow", "cpu-control", "cpu-unet",
                                  "cpu-parts"]}  # fmt: skip
    whole, rest, control, unet, in_parts = document["graphs"]["denoiser"]["variants"]
    assert whole["rewrites"].keys() == {"attention", "phases", "prefix"}
    assert in_parts["rewrites"] == whole["rewrites"] and in_parts["role"] == "parts"
    assert (whole["role"], rest["role"]) == ("whole", "shallow")
    assert whole["shares_prefix"] and rest["shares_prefix"]
    assert whole["deep"] == rest["deep"] == "deep"
    assert (control["role"], unet["role"]) == ("control", "unet")
    assert 0 < whole["left"] < control["left"]
    assert (
        control["rewrites"]["attention"] + unet["rewrites"]["attention"]
        == (whole["rewrites"]["attention"])
    )
    for graph in document["graphs"].values():
        for entry in (graph, *graph["variants"]):
            assert entry["files"] == {f: sha256(completed / f) for f in entry["files"]}
        for variant in graph["variants"]:
            if variant["role"] == "parts":
                continue
            assert len(variant["verified"]) == len(graph["verified"])
            assert max(row["relative_rms"] for row in variant["verified"]) < check.BOUND
            model = onnx.load(completed / variant["file"], load_external_data=False)
            assert onnx_parts.data_files(model.graph.initializer) == {f"{graph['file']}.data"}
            assert all(len(t.raw_data) <= onnx_parts.SMALL for t in model.graph.initializer)
    assert bundle.files(document) <= {path.name for path in completed.iterdir()}


def test_weights_stay(completed):
    for path in BUNDLE.glob("*.data"):
        assert (completed / path.name).read_bytes() == path.read_bytes()


def test_variants_of_the_command_run(completed):
    for name in SIZES:
        feed = feed_of(name, 1, 2 if name == "denoiser" else 1)
        [wanted] = run(BUNDLE / f"{name}.onnx", check.repeated(feed, 2) if len(feed) > 1 else feed)
        found = run(completed / f"{name}.cpu.onnx", feed, completed)[0]
        assert relative_rms(found, wanted) < 1e-6


def test_the_reverse_pass_shares_the_weights(completed):
    latent = np.random.default_rng(0).standard_normal((1, 4, 5, 3)).astype(np.float32)
    feed = {"latent": latent, "cotangent": np.ones((1, 3, 40, 24), np.float32)}
    path = completed / "vae_decoder_vjp.onnx"
    for found, wanted in zip(
        run(path, feed, completed), run(BUNDLE / path.name, feed), strict=True
    ):
        assert relative_rms(found, wanted) < 1e-6
    assert path.stat().st_size < (BUNDLE / path.name).stat().st_size / 2
    assert share.share(path, completed / "vae_decoder.onnx") is None


def test_the_command_again_changes_nothing(completed, capsys):
    before = {path: path.stat().st_mtime_ns for path in completed.iterdir()}
    assert command([str(completed), "--provider", "cpu"]) == 0
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in completed.iterdir()} == before


@pytest.mark.parametrize("kept", [{".data"}, {".data", ".onnx"}])
def test_an_interrupted_command_can_be_run_again(completed, tmp_path, kept):
    """Files are replaced in order: data, graphs, manifest."""
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    for path in completed.iterdir():
        if path.suffix in kept:
            shutil.copy(path, folder)
    assert command([str(folder)]) == 0
    document = yaml.safe_load((folder / "bundle.yaml").read_text())
    for graph in document["graphs"].values():
        for entry in (graph, *graph["variants"]):
            assert entry["files"] == {f: sha256(folder / f) for f in entry["files"]}
    assert bundle.files(document) == bundle.files(bundle.read(completed))


def test_a_folder_without_a_bundle(tmp_path, capsys):
    assert command([str(tmp_path)]) == UsageError.exit_code
    assert "holds no bundle" in capsys.readouterr().err


def test_a_wrong_variant_is_refused(tmp_path, monkeypatch):
    """One altered weight of one variant."""
    real = make.variants

    def altered(base, kind, provider):
        made = real(base, kind, provider)
        for tensor in made[-1].model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
                values = numpy_helper.to_array(tensor) + np.float32(0.01)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                break
        return made

    monkeypatch.setattr(make, "variants", altered)
    entry = bundle.read(BUNDLE)["graphs"]["denoiser"]
    with pytest.raises(VerificationError, match=r"denoiser\.cpu\.unet\.onnx: relative RMS"):
        make.write(BUNDLE / "denoiser.onnx", tmp_path, entry, lambda _: None)


def test_fp16_has_no_variants(tmp_path):
    entry = {**bundle.read(BUNDLE)["graphs"]["denoiser"], "precision": "fp16"}
    assert make.write(BUNDLE / "denoiser.onnx", tmp_path, entry, print) == []


@pytest.mark.parametrize("flags", [[], ["--no-variants"]])
def test_the_exporter_writes_them(tmp_path, flags):
    out = tmp_path / "bundle"
    code = main(["--family", "v1", "--random-weights", "3", "--arch-config", str(TINY),
                 "--no-text-encoder", "--guidance-graph", "--min-short-edge", "128",
                 "--out", str(out), *flags])  # fmt: skip
    assert code == 0
    document = bundle.read(out)
    found = {path.name for path in out.glob("*.cpu*.onnx")}
    wanted = {"cleaner_sr.cpu.onnx", "vae_encoder.cpu.onnx", "vae_decoder.cpu.onnx",
              "denoiser.cpu.onnx", "denoiser.cpu.shallow.onnx", "denoiser.cpu.control.onnx",
              "denoiser.cpu.unet.onnx"}  # fmt: skip
    assert found == (set() if flags else wanted)
    assert {path.name for path in out.iterdir()} == bundle.files(document)
    files = document["graphs"]["vae_decoder_vjp"]["files"]
    assert files == {f: sha256(out / f) for f in ("vae_decoder_vjp.onnx", "vae_decoder.onnx.data")}


def test_parts_give_the_whole(completed):
    whole = completed / "denoiser.cpu.onnx"
    described = onnx.load(completed / "denoiser.onnx", load_external_data=False)
    inputs = check.feed(described, 2, 16, 24, 2)
    wanted, *_ = check.session(whole.read_bytes(), completed).run(None, inputs)
    path = completed / "denoiser.cpu.parts.safetensors"
    found = parts.run(path, completed, inputs)["output"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with safe_open(path, "numpy") as file:
        plan = json.loads(file.metadata()["plan"])["parts"]
        sizes = [len(onnx.load_from_string(file.get_tensor(part["graph"]).tobytes())
                     .graph.initializer) for part in plan]  # fmt: skip
    assert len(plan) == parts.COUNT
    assert all(sizes)
