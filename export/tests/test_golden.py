"""Every graph of the reference's tiny model against what the reference computed."""

import json

import numpy as np
import pytest
from helpers import Graphs, relative_rms
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from diffbir_export import checkpoint, config, contexts
from diffbir_export.build import check_weights
from diffbir_export.plan import Request, graph_plans
from diffbir_export.weights import CheckpointWeights

BOUND = 1e-3  # the contract's; measured values are near 1e-6


@pytest.fixture(scope="module")
def graphs(golden_bundle):
    return Graphs(golden_bundle)


@pytest.fixture(scope="module")
def wanted(golden):
    return load_file(golden / "modules.safetensors")


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "modules.json").read_text())


def cases(wanted, prefix, needs):
    """`PREFIX.CASE.` for every case that has the tensor `needs`."""
    names = sorted(n.split(".")[1] for n in wanted if n.startswith(prefix + ".") and
                   n.endswith("." + needs))  # fmt: skip
    assert names
    return [f"{prefix}.{name}." for name in names]


@pytest.mark.parametrize(
    ("prefix", "graph"),
    [("bsrnet", "cleaner_sr"), ("swinir", "cleaner_face"), ("scunet", "cleaner_denoise")],
)
def test_cleaners(graphs, wanted, prefix, graph):
    for case in cases(wanted, prefix, "in"):
        [found] = graphs.run(graph, image=wanted[case + "in"])
        assert relative_rms(found, wanted[case + "out"]) < BOUND, case


def test_vae_encoder(graphs, wanted):
    for case in cases(wanted, "vae_encode", "in"):
        [found] = graphs.run("vae_encoder", image=wanted[case + "in"])
        assert relative_rms(found, wanted[case + "z"]) < BOUND, case


def test_vae_decoder(graphs, wanted):
    for case in cases(wanted, "vae_decode", "z"):
        [found] = graphs.run("vae_decoder", latent=wanted[case + "z"])
        assert relative_rms(found, wanted[case + "out"]) < BOUND, case


def test_text_encoder(graphs, wanted):
    for case in cases(wanted, "clip", "tokens"):
        [found] = graphs.run("text_encoder", token_ids=wanted[case + "tokens"])
        assert relative_rms(found, wanted[case + "c_txt"]) < BOUND, case


@pytest.mark.parametrize(
    ("strength", "output"), [(1.0, "strength1.0"), (0.5, "strength0.5"), (0.0, "nocontrol")]
)
def test_denoiser(graphs, wanted, strength, output):
    for case in cases(wanted, "cldm", f"out.{output}"):
        [found] = graphs.run(
            "denoiser",
            x=wanted[case + "x"],
            timestep=wanted[case + "t"].astype(np.float32),
            context=wanted[case + "c_txt"],
            hint=wanted[case + "hint"],
            strength=np.full(13, strength, np.float32),
        )
        assert relative_rms(found, wanted[f"{case}out.{output}"]) < BOUND, case


def test_control_outputs_in_pytorch(golden, wanted):
    """The order and scale of all 13, before they are added to the UNet."""
    import torch

    from diffbir_export.keys import control_map
    from diffbir_export.models.control import Control
    from diffbir_export.weights import fill, on_meta

    sizes = config.load(golden, "v1")
    weights = CheckpointWeights({"control": golden / "control_tiny.pth"})
    module = on_meta(lambda: Control(sizes.control))
    fill(module, control_map(sizes.control), weights, round_to_half=False)
    for case in cases(wanted, "cldm", "control.00"):
        tensors = [torch.from_numpy(wanted[case + n]) for n in ("x", "t", "c_txt", "hint")]
        tensors[1] = tensors[1].float()
        with torch.inference_mode():
            outputs = module(*tensors, torch.ones(13))
        for i, output in enumerate(outputs):
            assert relative_rms(output.numpy(), wanted[f"{case}control.{i:02}"]) < BOUND


def test_contexts(golden_bundle, wanted):
    found = load_file(golden_bundle / "contexts.safetensors")
    assert set(found) == {"empty", "negative"}
    assert relative_rms(found["empty"], wanted["clip.empty.c_txt"][0]) < BOUND
    assert relative_rms(found["negative"], wanted["clip.neg_v2.c_txt"][0]) < BOUND


def test_tokenizer_file(golden_bundle, facts):
    """The file alone, as the Rust side uses it; mojibake needs ftfy itself."""
    tokenizer = Tokenizer.from_file(str(golden_bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for text, ids in facts["tokenizer_cases"].items():
        if "Ã" not in text:
            assert tokenizer.encode(text).ids == [49406, *ids, 49407], text


def test_cleaned_and_padded_ids(wanted, facts):
    for name, text in facts["prompts"].items():
        assert (contexts.token_ids([text]).numpy() == wanted[f"clip.{name}.tokens"]).all(), name
    for text, ids in facts["tokenizer_cases"].items():
        found = contexts.token_ids([text])[0].tolist()
        assert found[: min(76, len(ids) + 1)] == [49406, *ids][:76], text


@pytest.mark.parametrize("family", ["v1", "v2.1"])
def test_other_families_load_the_same_files(golden, tmp_path, family):
    """Key checks only: the graphs are the same. Also the .safetensors form of the checkpoint."""
    files = {"sd": golden / "sd_tiny.safetensors", "control": golden / "control_tiny.pth",
             "cleaner.sr": golden / "swinir_tiny.ckpt"}  # fmt: skip
    request = Request(family, config.load(golden, family), tmp_path, files, tasks=("sr",))
    check_weights(request, graph_plans(request), CheckpointWeights(files))
    assert request.config.diffusion.zero_snr == (family == "v2.1")


def test_both_forms_of_the_checkpoint_are_equal(golden):
    pickled = checkpoint.load_checkpoint(golden / "sd_tiny.ckpt")
    flat = checkpoint.load_checkpoint(golden / "sd_tiny.safetensors")
    shared = pickled.keys() & flat.keys()
    assert len(shared) > 900
    assert all(pickled[key].equal(flat[key]) for key in shared)
