"""A whole bundle of tiny random networks: graphs, interfaces, bundle.yaml."""

import numpy as np
import onnx
import pytest
import yaml
from conftest import TINY
from helpers import Graphs, relative_rms
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from diffbir_export import bundle, config, contexts, plan, verify
from diffbir_export.checkpoint import sha256
from diffbir_export.contracts import INPUTS, OUTPUTS
from diffbir_export.errors import ExportError, VerificationError
from diffbir_export.weights import RandomWeights, fill, on_meta


@pytest.fixture(scope="module")
def document(random_bundle):
    return yaml.safe_load((random_bundle / "bundle.yaml").read_text())


@pytest.fixture(scope="module")
def plans():
    request = plan.Request("v2", config.load(TINY, "v2"), TINY, {}, seed=1,
                           tasks=("sr", "face", "denoise"))  # fmt: skip
    return {p.name: p for p in plan.graph_plans(request)}


def test_document(document):
    bundle.validate(document)
    assert document["format"] == 1
    assert document["weights"] == {"source": "random", "seed": 1}
    assert document["min_short_edge"] == 128
    assert document["tasks"] == {t: {"cleaner": f"cleaner_{t}"} for t in ("sr", "face", "denoise")}
    assert document["defaults"]["cfg_scale"] == 4.0
    found = {name: (g["kind"], g["multiple"], g["scale"]) for name, g in document["graphs"].items()}
    assert found == {
        "cleaner_sr": ("cleaner", 1, 4),
        "cleaner_face": ("cleaner", 64, 1),
        "cleaner_denoise": ("cleaner", 1, 1),
        "vae_encoder": ("vae_encoder", 8, 0.125),
        "vae_decoder": ("vae_decoder", 1, 8),
        "text_encoder": ("text_encoder", 1, 1),
        "denoiser": ("denoiser", 8, 1),
    }


def test_hashes_and_files(random_bundle, document):
    listed = {"bundle.yaml": None}
    for graph in document["graphs"].values():
        for entry in (graph, *graph["variants"]):
            listed |= entry["files"]
    for entry in (document["contexts"], document["tokenizer"]):
        listed[entry["file"]] = entry["sha256"]
    assert {path.name for path in random_bundle.iterdir()} == set(listed)
    for name, digest in listed.items():
        assert digest is None or sha256(random_bundle / name) == digest


def test_verified_at_two_sizes_and_batches(document):
    for name, graph in document["graphs"].items():
        rows = graph["verified"]
        assert {row["batch"] for row in rows} == {1, 2}
        assert len({(row["height"], row["width"]) for row in rows}) == 1 + (name != "text_encoder")
        assert all(row["relative_rms"] < 1e-4 for row in rows), name
        assert 0 < graph["max_activation"] < 65504


def test_interfaces(random_bundle, document):
    for name, graph in document["graphs"].items():
        model = onnx.load(random_bundle / graph["file"], load_external_data=False)
        assert tuple(i.name for i in model.graph.input) == INPUTS[graph["kind"]], name
        assert tuple(o.name for o in model.graph.output) == OUTPUTS[graph["kind"]], name
        for value in (*model.graph.input, *model.graph.output):
            if value.name != "strength":
                axes = value.type.tensor_type.shape.dim
                assert axes[0].dim_param, f"{name}: the batch of {value.name} is not dynamic"
        assert {o.version for o in model.opset_import if o.domain == ""} == {20}
        assert {o.domain for o in model.opset_import} == {""}, name


def test_nothing_of_the_machine_is_in_the_graphs(random_bundle):
    for path in random_bundle.glob("*.onnx"):
        content = path.read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


@pytest.mark.parametrize("graph", ["cleaner_sr", "cleaner_face", "cleaner_denoise", "vae_encoder",
                                   "vae_decoder", "denoiser"])  # fmt: skip
@pytest.mark.parametrize(("batch", "units"), [(3, (3, 1)), (1, (1, 4))])
def test_sizes_that_were_neither_traced_nor_verified(random_bundle, plans, graph, batch, units):
    import torch

    chosen = plans[graph]
    unit = chosen.contract.multiple if chosen.contract.multiple > 1 else 23
    feed = chosen.contract.example(batch, units[0] * unit, units[1] * unit, seed=5)
    module = fill(on_meta(chosen.build), chosen.keys, RandomWeights(1), False)
    with torch.inference_mode():
        wanted = module(*feed.values()).numpy()
    found = Graphs(random_bundle).run(graph, **{k: v.numpy() for k, v in feed.items()})[0]
    assert relative_rms(found, wanted) < 1e-4


def test_strength_scales_the_control(random_bundle, plans):
    """Random control modules matter: with zero convolutions at zero nothing would test them."""
    graphs = Graphs(random_bundle)
    feed = {k: v.numpy() for k, v in plans["denoiser"].contract.example(1, 16, 8, seed=3).items()}
    [full] = graphs.run("denoiser", **feed | {"strength": np.ones(13, np.float32)})
    [half] = graphs.run("denoiser", **feed | {"strength": np.full(13, 0.5, np.float32)})
    [none] = graphs.run("denoiser", **feed | {"strength": np.zeros(13, np.float32)})
    assert relative_rms(full, none) > relative_rms(half, none) > 0.02


def test_contexts_are_the_text_encoder_s(random_bundle, document):
    entry = document["contexts"]
    found = load_file(random_bundle / entry["file"])
    for row in entry["prompts"]:
        ids = contexts.token_ids([row["prompt"]]).numpy()
        [context] = Graphs(random_bundle).run("text_encoder", token_ids=ids)
        assert found[row["tensor"]].shape == (77, entry["width"])
        assert relative_rms(found[row["tensor"]], context[0]) < 1e-5


def test_tokenizer(random_bundle):
    tokenizer = Tokenizer.from_file(str(random_bundle / "tokenizer.json"))
    ids = tokenizer.encode("Hello,  WORLD! &amp; it\u2019s").ids
    assert ids[:9] == [49406, 3306, 267, 1002, 256, 261, 585, 568, 49407]
    assert ids[9:] == [0] * 68  # padded with "!", as the reference does
    long = tokenizer.encode("a " * 200).ids
    assert len(long) == 77
    assert long[-1] == 49407
    assert tokenizer.encode("").ids == [49406, 49407, *[0] * 75]


def test_equal_seeds_give_equal_weights(plans):
    chosen = plans["cleaner_face"]

    def digest(seed):
        module = fill(on_meta(chosen.build), chosen.keys, RandomWeights(seed), False)
        return [p.sum().item() for p in module.parameters()]

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_schema_refuses_strangers(document):
    for change in ({"surprise": 1}, {"format": 2}, {"family": "v3"}, {"tasks": {}}):
        with pytest.raises(ExportError, match=r"bundle\.yaml"):
            bundle.validate(document | change)
    graphs = {k: dict(v) for k, v in document["graphs"].items()}
    graphs["denoiser"]["extra"] = 1
    with pytest.raises(ExportError, match="graphs/denoiser"):
        bundle.validate(document | {"graphs": graphs})


def test_a_wrong_graph_is_refused(random_bundle, plans):
    chosen = plans["cleaner_face"]
    module = fill(on_meta(chosen.build), chosen.keys, RandomWeights(2), False)
    wanted = verify.reference(module, chosen.contract)
    with pytest.raises(VerificationError, match="relative RMS"):
        verify.verify(random_bundle / "cleaner_face.onnx", chosen.contract, wanted, "fp32")
