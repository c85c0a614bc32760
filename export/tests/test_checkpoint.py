"""Reading checkpoints: wrappers, key errors, and pickles that would run code."""

import os
import pickle
import subprocess

import pytest
import torch
from safetensors.torch import save_file

from diffbir_export.checkpoint import check_keys, load_checkpoint, sha256
from diffbir_export.errors import ExportError, InputError, UsageError


def weights():
    return {"a.weight": torch.ones(2, 3), "b.bias": torch.zeros(4)}


def same(found):
    wanted = weights()
    return found.keys() == wanted.keys() and all(found[k].equal(wanted[k]) for k in wanted)


class Callback:
    """Stands for a training library's object in a checkpoint."""

    def __init__(self):
        self.best = 0.5


class Runs:
    """A pickle that writes a file when it is loaded the ordinary way."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
def test_wrappers_are_stripped(tmp_path, suffix):
    wrapped = {f"module.{key}": value for key, value in weights().items()}
    path = tmp_path / f"w{suffix}"
    torch.save({"state_dict": wrapped, "global_step": 7}, path)
    assert same(load_checkpoint(path))
    torch.save(wrapped, path)
    assert same(load_checkpoint(path))
    torch.save(weights(), path)
    assert same(load_checkpoint(path))


def test_safetensors(tmp_path):
    save_file(weights(), tmp_path / "w.safetensors")
    assert same(load_checkpoint(tmp_path / "w.safetensors"))


def test_format_before_torch_1_6(tmp_path):
    torch.save(weights(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(load_checkpoint(tmp_path / "w.pth"))


def test_training_leftovers_are_inert(tmp_path):
    import numpy as np

    content = {"state_dict": weights(), "callbacks": {Callback: Callback()}, "lr": np.float64(1)}
    torch.save(content, tmp_path / "w.ckpt")
    assert same(load_checkpoint(tmp_path / "w.ckpt"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function", [os.system, subprocess.getoutput, eval, exec])
def test_malicious_pickles_do_not_run(tmp_path, function, legacy):
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')" if function in (eval, exec) else f"touch {mark}"
    evil = {"state_dict": weights(), "hooks": Runs(function, code)}
    path = tmp_path / "w.ckpt"
    torch.save(evil, path, _use_new_zipfile_serialization=not legacy)
    try:
        assert same(load_checkpoint(path))
    except InputError as error:
        assert "w.ckpt" in str(error)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Runs(function, code)))  # the payload does run the ordinary way
    assert mark.exists()


def test_a_weight_that_is_no_tensor_is_refused(tmp_path):
    torch.save({"a": Callback()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not tensors"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("w.bin", b"x", UsageError), ("w.ckpt", b"", InputError), ("w.pth", b"text", InputError),
     ("w.safetensors", b"12345678{", InputError)],
)  # fmt: skip
def test_files_that_are_no_checkpoints(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=name) as caught:
        load_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_file(tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"w\.pth"):
        load_checkpoint(tmp_path / "w.pth")


def test_key_errors_list_the_keys():
    found = {"a": (1,), "extra.x": (2,), "model_ema.decay": (), "c": (3, 3)}
    expected = {"a": (1,), "b": (2,), "c": (3, 4)}
    with pytest.raises(InputError) as caught:
        check_keys("sd=f.ckpt", found, expected, (r"model_ema\..+",))
    text = str(caught.value)
    assert "1 missing keys: b" in text
    assert "1 unexpected keys: extra.x" in text
    assert "c [3, 3] (expected [3, 4])" in text
    assert "model_ema" not in text
    check_keys("x", {"a": (1,)}, {"a": (1,)}, ())


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f").startswith("ba7816bf8f01cfea")
