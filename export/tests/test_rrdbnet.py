"""RRDBNet files in each layout, through the exporter, against a forward pass of their own keys."""

import numpy as np
import pytest
import torch
from conftest import TINY
from helpers import Graphs
from torch.nn import functional as F

from diffbir_export import bundle
from diffbir_export.cli import main

NF, BLOCKS, GC = 8, 2, 4


def modules(layout, ups):
    """The file's names in the order of the forward pass, as its authors' classes have them."""
    if layout == "ESRGAN":
        block, trunk = "model.1.sub.{}.RDB{}.conv{}.0", f"model.1.sub.{BLOCKS}"
        first, doubling = "model.0", [f"model.{3 * i + 3}" for i in range(ups)]
        tail = [f"model.{3 * ups + 2}", f"model.{3 * ups + 4}"]
    elif layout == "Real-ESRGAN":
        block, trunk, first = "body.{}.rdb{}.conv{}", "conv_body", "conv_first"
        doubling, tail = [f"conv_up{i + 1}" for i in range(ups)], ["conv_hr", "conv_last"]
    else:
        block, trunk, first = "RRDB_trunk.{}.RDB{}.conv{}", "trunk_conv", "conv_first"
        doubling, tail = [f"upconv{i + 1}" for i in range(ups)], ["HRconv", "conv_last"]
    blocks = [[[block.format(b, d, c) for c in range(1, 6)] for d in (1, 2, 3)]
              for b in range(BLOCKS)]  # fmt: skip
    return first, blocks, trunk, doubling, tail


def random_file(layout, ups, fold, seed=0):
    """A state dict of the layout."""
    g = torch.Generator().manual_seed(seed)
    first, blocks, trunk, doubling, (hr, last) = modules(layout, ups)
    sizes = {first: (NF, 3 * fold**2), trunk: (NF, NF), hr: (NF, NF), last: (3, NF)}
    sizes |= dict.fromkeys(doubling, (NF, NF))
    for dense in (dense for block in blocks for dense in block):
        for i, name in enumerate(dense):
            sizes[name] = (GC if i < 4 else NF, NF + i * GC)
    state = {}
    for name, (outputs, inputs) in sizes.items():
        kernel = torch.randn((outputs, inputs, 3, 3), generator=g) / (3 * inputs**0.5)
        state |= {f"{name}.weight": kernel, f"{name}.bias": torch.randn(outputs, generator=g) / 9}
    return state


def forward(state, layout, ups, fold, image):
    """ESRGAN's forward pass (arXiv 1809.00219) on the file's own names."""

    def conv(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    first, blocks, trunk, doubling, (hr, last) = modules(layout, ups)
    n, c, h, w = image.shape
    folded = image.reshape(n, c, h // fold, fold, w // fold, fold).permute(0, 1, 3, 5, 2, 4)
    start = x = conv(first, folded.reshape(n, c * fold**2, h // fold, w // fold))
    for block in blocks:
        y = x
        for dense in block:
            seen = [y]
            for name in dense[:4]:
                seen.append(F.leaky_relu(conv(name, torch.cat(seen, 1)), 0.2))
            y = y + 0.2 * conv(dense[4], torch.cat(seen, 1))
        x = x + 0.2 * y
    x = start + conv(trunk, x)
    for name in doubling:
        x = F.leaky_relu(conv(name, x.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    return conv(last, F.leaky_relu(conv(hr, x), 0.2))


CASES = [("Real-ESRGAN", 2, 1), ("Real-ESRGAN", 2, 2), ("Real-ESRGAN", 2, 4), ("ESRGAN", 2, 1),
         ("ESRGAN", 1, 1), ("ESRGAN", 0, 1), ("BSRGAN", 2, 1), ("BSRGAN", 1, 1)]  # fmt: skip


@pytest.mark.parametrize(("layout", "ups", "fold"), CASES)
def test_layouts(tmp_path, layout, ups, fold):
    """A bundle of a restoration module alone, which keeps its file's function and scale."""
    state = random_file(layout, ups, fold)
    wrapped = {"params": random_file(layout, ups, fold, 1), "params_ema": state}
    torch.save(wrapped if layout == "Real-ESRGAN" else state, tmp_path / "net.pth")
    out = tmp_path / "out"
    assert main(["--family", "v1", "--weights", f"cleaner.sr={tmp_path / 'net.pth'}",
                 "--out", str(out)]) == 0  # fmt: skip
    document = bundle.read(out)
    assert list(document["graphs"]) == ["cleaner_sr"]
    assert not {"diffusion", "latent", "defaults", "contexts", "tokenizer"} & document.keys()
    graph = document["graphs"]["cleaner_sr"]
    assert (graph["architecture"], graph["multiple"]) == ("rrdbnet", fold)
    assert graph["scale"] == 2**ups / fold
    image = torch.rand((1, 3, 24, 32), generator=torch.Generator().manual_seed(7))
    wanted = forward(state, layout, ups, fold, image).numpy()
    for name in ("cleaner_sr", "cleaner_sr.cpu"):
        if (out / f"{name}.onnx").is_file():
            (found,) = Graphs(out).run(name, image=image.numpy())
            assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_cleaner_of_a_whole_bundle_may_be_rrdbnet(tmp_path):
    """Tasks whose file is no RRDBNet keep the family's architecture; here all have one file."""
    from diffbir_export import config, plan

    torch.save({"params_ema": random_file("Real-ESRGAN", 2, 1)}, tmp_path / "net.pth")
    files = {f"cleaner.{task}": tmp_path / "net.pth" for task in ("sr", "face")}
    files |= {"sd": tmp_path / "net.pth", "control": tmp_path / "net.pth"}
    request = plan.Request("v2", config.load(TINY, "v2"), tmp_path, files, tasks=("sr", "face"))
    plans = plan.graph_plans(request)
    assert [p.name for p in plans if p.contract.kind == "cleaner"] == ["cleaner_sr"]
    assert any(p.name == "denoiser" for p in plans)


def test_other_layouts_are_named(tmp_path, capsys):
    def refused(state, *more):
        torch.save(state, tmp_path / "net.pth")
        assert main(["--family", "v1", "--weights", f"cleaner.sr={tmp_path / 'net.pth'}", *more,
                     "--out", str(tmp_path / "out")]) in (2, 3)  # fmt: skip
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    error = refused({"params": {"body.0.weight": torch.zeros(4, 3, 3, 3),
                                "body.1.weight": torch.zeros(4)}})  # fmt: skip
    assert "SRVGGNetCompact" in error
    assert "Real-ESRGAN's, ESRGAN's, BSRGAN's" in error
    assert "doubles the size 3 times" in refused(random_file("ESRGAN", 3, 1))
    assert "12 input channels" in refused(random_file("BSRGAN", 0, 2))
    damaged = random_file("Real-ESRGAN", 2, 1)
    del damaged["body.1.rdb2.conv3.bias"]
    assert "1 missing keys: body.1.rdb2.conv3.bias" in refused(damaged)
    del damaged["conv_first.weight"]
    assert "conv_first.weight" in refused(damaged)
    assert "go with a diffusion model" in refused(random_file("BSRGAN", 2, 1), "--split")
