"""Variants for CUDA: what is fused, each operator's definition, the command. None runs on a GPU."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from conftest import EXPORT, TINY
from onnx import TensorProto, helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from torch.nn import functional as F

from diffbir_export import bands, bundle, onnx_parts
from diffbir_export.checkpoint import sha256
from diffbir_export.cli import main
from diffbir_export.errors import ExportError, UsageError, VerificationError
from diffbir_export.variants import check, cuda, group_norm, lower, make, tokens
from diffbir_export.variants.__main__ import main as command
from diffbir_export.variants.graph import CONTRIB, Graph, attributes, node

FP32_BUNDLE = EXPORT.parent / "tests" / "fixtures" / "bundle"
NAMES = ("vae_encoder", "vae_decoder", "denoiser")
# The tiny architecture's. Its denoiser has 32 residual blocks (22 and, in the control module, 10)
# of two normalisations each, of which the second takes the timestep along, and 9 transformer blocks
# of two attentions and three layer normalisations.
COUNTS = {
    "vae_encoder": {"attention": 1, "group_norm": 10, "nhwc_conv": 18, "skip_group_norm": 4},
    "vae_decoder": {"attention": 1, "group_norm": 14, "nhwc_conv": 26, "skip_group_norm": 8},
    "denoiser": {"attention": 18, "bias_add": 9, "bias_split_gelu": 9, "group_norm": 20,
                 "layer_norm": 9, "nhwc_conv": 101, "skip_group_norm": 54, "skip_layer_norm": 18},
}  # fmt: skip
BORDERS = {
    "vae_encoder": {"_to_copy/nhwc", "conv2d_17"},
    "vae_decoder": {"_to_copy/nhwc", "image"},
    "denoiser": {"cat_2/nhwc", "_to_copy_1/nhwc", "output", "deep"},
}


@pytest.fixture(scope="module", autouse=True)
def _narrow():
    """The tiny networks are too narrow for CUDA's kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "AT_ONCE", 1)
        patch.setattr(tokens, "GELU_WIDTHS", (256,))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An fp16 bundle as exported."""
    out = tmp_path_factory.mktemp("half") / "bundle"
    flags = ["--family", "v1", "--random-weights", "3", "--arch-config", str(TINY), "--tasks", "sr",
             "--no-text-encoder", "--min-short-edge", "128", "--precision", "fp16"]  # fmt: skip
    assert main([*flags, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def document(plain):
    """The same bundle with the variants; what it says of itself."""
    assert not [v for graph in bundle.read(plain)["graphs"].values() for v in graph["variants"]]
    assert command([str(plain), "--provider", "cuda"]) == 0
    return bundle.read(plain)


def graph_of(document, folder, name, variant=0):
    return Graph(folder / document["graphs"][name]["variants"][variant]["file"])


def ops(graph):
    return Counter(n.op_type for n in graph.nodes)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_fused(document, plain, name):
    base = Graph(plain / f"{name}.onnx")
    found = graph_of(document, plain, name)
    before, after = ops(base), ops(found)
    counts = dict(document["graphs"][name]["variants"][0]["rewrites"])
    assert (counts.pop("prefix", 0) > 0) == (name == "denoiser")
    assert counts == COUNTS[name] == cuda.counts(found)
    assert not {"InstanceNormalization", "Softmax", "Gelu", "Conv"} & after.keys()
    norms = [n for n in found.nodes if n.op_type in ("GroupNorm", "SkipGroupNorm")]
    assert len(norms) == before["InstanceNormalization"]
    # Whatever has SiLU behind a normalisation has it in it.
    with_silu = sum(attributes(norm)["activation"] for norm in norms)
    assert with_silu == before["Sigmoid"] - after["Sigmoid"]
    assert after["Sigmoid"] == (4 if name == "denoiser" else 0)  # of the timestep
    assert after["NhwcConv"] == before["Conv"]
    assert after["MultiHeadAttention"] == before["Softmax"]
    assert after["BiasSplitGelu"] == before["Gelu"]
    layer_norms = after["LayerNormalization"] + after["SkipLayerNormalization"]
    assert layer_norms == before["LayerNormalization"]
    assert all(attributes(norm)["channels_last"] == 1 for norm in norms)


@pytest.mark.parametrize("name", NAMES)
def test_transposes_are_left_at_the_borders(document, plain, name):
    graph = graph_of(document, plain, name)
    turned = {n.output[0] for n in graph.nodes
              if n.op_type == "Transpose" and not graph.is_constant(n.input[0])}  # fmt: skip
    assert turned == BORDERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_casts_are_left_at_the_borders(document, plain, name):
    """What was f32 between casts is computed in f32 inside of an operator."""
    graph = graph_of(document, plain, name)
    casts = [n for n in graph.nodes
             if n.op_type == "Cast" and not graph.is_constant(n.input[0])]  # fmt: skip
    borders = {"vae_encoder": 2, "vae_decoder": 2, "denoiser": 7}
    assert len(casts) == borders[name]


@pytest.mark.parametrize("name", NAMES)
def test_types_and_shapes_are_inferred_throughout(document, plain, name):
    entry = document["graphs"][name]
    for variant in entry["variants"]:
        model = onnx.load(plain / variant["file"])
        inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
        known = {v.name: v.type.tensor_type for v in inferred.graph.value_info}
        inside = {n for made in inferred.graph.node for n in made.output if n} - {
            v.name for v in inferred.graph.output
        }
        assert inside <= known.keys()
        base = {v.name: v for v in onnx.load(plain / entry["file"]).graph.output}
        for value in inferred.graph.output:
            kind = value.type.tensor_type
            assert kind.elem_type == TensorProto.FLOAT
            assert len(kind.shape.dim) == 4
            if value.name in base:
                channels = base[value.name].type.tensor_type.shape.dim[1]
                assert kind.shape.dim[1] == channels


@pytest.mark.parametrize("name", NAMES)
def test_what_is_derived_of_weights_is_computed_when_loaded(document, plain, tmp_path, name):
    """ONNX Runtime's constant folding leaves none of those nodes."""
    graph = graph_of(document, plain, name)
    derived = [n for n in graph.nodes if n.input and graph.is_constant(n.output[0])]
    assert {n.op_type for n in derived} <= {"Cast", "Reshape", "Transpose"}
    assert len(derived) > 20
    outputs = [helper.make_empty_tensor_value_info(n.output[0]) for n in derived]
    parts = helper.make_graph(derived, "g", [], outputs, list(graph.tensors.values()))
    model = helper.make_model(parts, opset_imports=graph.model.opset_import,
                              ir_version=graph.model.ir_version)  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.add_session_config_entry(bands.FOLDER, str(plain))
    model = onnx.shape_inference.infer_shapes(model)
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    left = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
    assert not left


def test_what_the_bundle_says(document, plain):
    bundle.validate(yaml.safe_load((plain / "bundle.yaml").read_text()))
    names = {name: [v["name"] for v in graph["variants"]]
             for name, graph in document["graphs"].items()}  # fmt: skip
    assert names == {"cleaner_sr": [], "vae_encoder": ["cuda"], "vae_decoder": ["cuda"],
                     "denoiser": ["cuda", "cuda-shallow"]}  # fmt: skip
    whole, rest = document["graphs"]["denoiser"]["variants"]
    assert (whole["role"], rest["role"]) == ("whole", "shallow")
    assert whole["shares_prefix"] and rest["shares_prefix"]
    assert whole["deep"] == rest["deep"] == "deep"
    for graph in document["graphs"].values():
        for variant in graph["variants"]:
            assert (variant["provider"], variant["precision"]) == ("cuda", "fp16")
            assert variant["files"] == {f: sha256(plain / f) for f in variant["files"]}
            assert len(variant["verified"]) == len(graph["verified"])
            assert max(row["relative_rms"] for row in variant["verified"]) < 3e-3
            model = onnx.load(plain / variant["file"], load_external_data=False)
            assert onnx_parts.data_files(model.graph.initializer) == {f"{graph['file']}.data"}
            assert all(len(t.raw_data) <= onnx_parts.SMALL for t in model.graph.initializer)
    assert bundle.files(document) == {path.name for path in plain.iterdir()}


def test_the_command_again_changes_nothing(document, plain, capsys):
    before = {path: path.stat().st_mtime_ns for path in plain.iterdir()}
    assert command([str(plain), "--provider", "cuda"]) == 0
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in plain.iterdir()} == before


def test_an_fp32_bundle_has_none(capsys):
    assert command([str(FP32_BUNDLE), "--provider", "cuda"]) == UsageError.exit_code
    assert "none of its graphs is fp16" in capsys.readouterr().err


def test_all_or_an_error(plain, monkeypatch):
    path = plain / "denoiser.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "attention", lambda graph: 0)
        with pytest.raises(ExportError, match="still has Softmax"):
            make.variants(path, "denoiser", "cuda")
    with monkeypatch.context() as patch:
        patch.setattr(group_norm, "AT_ONCE", 2)
        with pytest.raises(ExportError, match="an even number of channels a group"):
            make.variants(path, "denoiser", "cuda")
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "GELU_WIDTHS", (2560,))
        with pytest.raises(ExportError, match="no BiasSplitGelu of that width"):
            make.variants(path, "denoiser", "cuda")


def altered(op, attribute, value):
    """`make.variants` with one node changed."""
    real = make.variants

    def made(base, kind, provider):
        result = real(base, kind, provider)
        found = next(n for n in result[0].model.graph.node if n.op_type == op)
        [old] = [a for a in found.attribute if a.name == attribute]
        old.CopyFrom(helper.make_attribute(attribute, value))
        return result

    return made


@pytest.mark.parametrize(
    ("op", "attribute", "value", "message"),
    [("GroupNorm", "activation", 0, "relative RMS"),
     # Below what fp16 rounds.
     ("GroupNorm", "epsilon", 0.05, "is above 1e-05"),
     ("Concat", "axis", 2, "is no graph for CUDA")],
)  # fmt: skip
def test_a_wrong_variant_is_refused(
    document, plain, tmp_path, monkeypatch, op, attribute, value, message
):
    name = "denoiser" if op == "Concat" else "vae_decoder"
    monkeypatch.setattr(make, "variants", altered(op, attribute, value))
    entry = document["graphs"][name]
    with pytest.raises(VerificationError, match=message):
        make.write(plain / f"{name}.onnx", tmp_path, entry, print, "cuda")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_a_cpu_runs_is_none_for_cuda(plain):
    variant = make.Variant("cuda", onnx.load(plain / "vae_decoder.onnx"), {}, "whole", "cuda")
    with pytest.raises(VerificationError, match="it runs on a CPU"):
        check.only_kernels_are_missing([variant], plain / "vae_decoder.onnx")


X = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))  # [N,H,W,C]
TOKENS = X.flatten(1, 2)
SKIP = TOKENS.flip(1) * 0.5
VECTOR = torch.linspace(0.5, 1.5, 8)
SHIFT = torch.linspace(-1, 1, 8)
KERNEL = torch.randn(6, 3, 3, 8, generator=torch.Generator().manual_seed(1)) / 8  # [O,h,w,I]
NORM = {"groups": 4, "epsilon": 1e-3, "channels_last": 1}


def normalised(x):
    """[N,H,W,C]."""
    return F.group_norm(x.permute(0, 3, 1, 2), 4, VECTOR, SHIFT, 1e-3).permute(0, 2, 3, 1)


def attended(q, k, v):
    """Two heads."""
    q, k, v = (x.unflatten(2, (2, 4)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2).flatten(2)


def gated(x, bias):
    left, right = (x + bias).chunk(2, dim=-1)
    return left * F.gelu(right)


TOTAL = X + X[:, 0, 0][:, None, None]
DEFINED = {
    "GroupNorm": ([X, VECTOR, SHIFT], {**NORM, "activation": 1}, [F.silu(normalised(X))]),
    "SkipGroupNorm": ([X, VECTOR, SHIFT, X[:, 0, 0]], {**NORM, "activation": 0},
                      [normalised(TOTAL), TOTAL]),
    "NhwcConv": ([X, KERNEL, SHIFT[:6]], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
                 [F.conv2d(X.permute(0, 3, 1, 2), KERNEL.permute(0, 3, 1, 2), SHIFT[:6],
                           padding=1).permute(0, 2, 3, 1)]),
    "MultiHeadAttention": ([TOKENS, SKIP, SKIP], {"num_heads": 2, "scale": 0.3},
                           [attended(TOKENS, SKIP, SKIP)]),
    "SkipLayerNormalization": ([TOKENS, SKIP, VECTOR, SHIFT, SHIFT], {"epsilon": 1e-3},
                               [F.layer_norm(TOKENS + SKIP + SHIFT, (8,), VECTOR, SHIFT, 1e-3),
                                TOKENS + SKIP + SHIFT]),
    "BiasSplitGelu": ([TOKENS, SHIFT], {}, [gated(TOKENS, SHIFT)]),
    "BiasAdd": ([TOKENS, SHIFT, SKIP], {}, [TOKENS + SHIFT + SKIP]),
}  # fmt: skip


@pytest.mark.parametrize("op", sorted(DEFINED))
def test_definitions_are_what_pytorch_computes(op, tmp_path):
    """Of an operator on its own, whose weights are stored as the variants have them."""
    inputs, values, wanted = DEFINED[op]
    names = [f"i{i}" for i in range(len(inputs))]
    outputs = ["y", "sum"][: len(wanted)]
    if op == "SkipLayerNormalization":
        outputs[1:1] = ["", ""]
    stored = [onnx.numpy_helper.from_array(x.contiguous().numpy(), name)
              for x, name in zip(inputs, names, strict=True)]  # fmt: skip
    fused = node(op, names, outputs, domain=CONTRIB, **values)
    results = [helper.make_empty_tensor_value_info(o) for o in outputs if o]
    model = helper.make_model(helper.make_graph([fused], "g", [], results, stored), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 20)])  # fmt: skip
    path = tmp_path / "op.onnx"
    found = check.session(lower.lower(model, path).SerializeToString(), tmp_path).run(None, {})
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
