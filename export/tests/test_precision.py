"""fp16 graphs, and fp32 graphs whose weights are stored as fp16."""

import numpy as np
import onnx
import yaml
from conftest import TINY
from onnx import TensorProto

from diffbir_export import build, config, fp16, plan
from diffbir_export.cli import main
from diffbir_export.weights import RandomWeights, fill, on_meta


def request(tmp_path, **changes):
    return plan.Request("v1", config.load(TINY, "v1"), tmp_path, {}, seed=0, tasks=("sr",),
                        **changes)  # fmt: skip


def export(tmp_path, name, **changes):
    asked = request(tmp_path, **changes)
    chosen = {p.name: p for p in plan.graph_plans(asked)}[name]
    entry = build.export_graph(chosen, asked, RandomWeights(0), tmp_path, lambda line: None)
    return entry, onnx.load(tmp_path / entry["file"])


def weight_types(model):
    return {t.data_type for t in model.graph.initializer if len(t.dims) >= 2 and t.dims[0] > 1}


def test_text_encoder_in_half(tmp_path):
    entry, model = export(tmp_path, "text_encoder", precision="fp16", storage="fp16")
    assert max(row["relative_rms"] for row in entry["verified"]) < 2e-2
    assert TensorProto.FLOAT16 in weight_types(model)


def test_norms_and_softmax_stay_in_f32(tmp_path):
    entry, model = export(tmp_path, "vae_encoder", precision="fp16", storage="fp16")
    assert max(row["relative_rms"] for row in entry["verified"]) < 2e-2
    # Cut into segments, it computes the same: the export verifies that.
    assert (tmp_path / entry["segments"]).is_file()
    assert set(entry["files"]) == {path.name for path in tmp_path.iterdir()}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    model = onnx.shape_inference.infer_shapes(model)
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    types |= {t.name: t.data_type for t in model.graph.initializer}
    in_f32 = ("InstanceNormalization", "LayerNormalization", "Softmax")
    checked = [n for n in model.graph.node if n.op_type in in_f32]
    assert len(checked) > 5
    assert all(types[node.input[0]] == TensorProto.FLOAT for node in checked)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert all(types[node.input[1]] == TensorProto.FLOAT16 for node in convolutions)


def test_denoiser_in_half_is_close_in_pytorch():
    """The denoiser takes long to trace; its half module is held against the f32 one directly."""
    import torch

    sizes = config.load(TINY, "v1")
    [chosen] = plan.denoiser_plans(sizes, split=False)
    feed = chosen.contract.example(2, 32, 16)
    module = fill(on_meta(chosen.build), chosen.keys, RandomWeights(0), False)
    with torch.inference_mode():
        wanted = module(*feed.values())
        found = fp16.to_half(module)(*feed.values())
    assert found.dtype == torch.float32
    assert ((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()) < 2e-2


def test_storage_fp16_computes_the_same_in_f32(tmp_path):
    entry, model = export(tmp_path, "vae_encoder", storage="fp16")
    assert entry["precision"] == "fp32"
    assert entry["storage"] == "fp16"
    assert max(row["relative_rms"] for row in entry["verified"]) < 1e-5
    stored = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert sum(np.prod(t.dims) for t in stored) > 100_000
    casts = [n for n in model.graph.node if n.op_type == "Cast"]
    assert len(casts) >= len(stored)


def test_cleaner_in_half_without_text_encoder(tmp_path, monkeypatch):
    """Through the command; both tasks share one graph. The slow graphs are left out."""
    monkeypatch.setattr("diffbir_export.plan.denoiser_plans", lambda *_: [])
    monkeypatch.setattr("diffbir_export.plan.vae_plans", lambda *_: [])
    out = tmp_path / "b"
    arguments = ["--family", "v1", "--arch-config", str(TINY), "--random-weights", "0"]
    arguments += ["--tasks", "sr,face", "--no-text-encoder", "--precision", "fp16"]
    assert main([*arguments, "--out", str(out)]) == 0
    document = yaml.safe_load((out / "bundle.yaml").read_text())
    assert {p.name for p in out.iterdir()} == {
        "bundle.yaml", "contexts.safetensors", "cleaner_sr.onnx"}  # fmt: skip
    assert "tokenizer" not in document
    assert document["tasks"] == {"sr": {"cleaner": "cleaner_sr"}, "face": {"cleaner": "cleaner_sr"}}
    assert document["graphs"]["cleaner_sr"]["precision"] == "fp16"
