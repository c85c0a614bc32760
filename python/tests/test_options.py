"""Every option through the package, from the table that tests the program and the C ABI."""

import json

import pytest
from conftest import FAST, ROOT

import diffbir
from diffbir import _engine

SAMPLES = json.loads((ROOT / "tests" / "options" / "samples.json").read_text())
# The keyword arguments of `Engine.restore`, by the key that they set.
KEYWORDS = {
    "restore.task": "task",
    **{f"sampling.{name}": name for name in _engine._TEXTS if name != "task"},
    **{key: name for name, key in _engine._NUMBERS.items()},
    **{key: name for name, key in _engine._SIZES.items()},
    **{key: name for name, (key, _, _) in _engine._COUNTS.items()},
}


def value_of(config, key):
    section, name = key.split(".")
    return config[section][name]


def configuration(bundle, **given):
    """Return an engine's configuration, or the message that refuses it."""
    try:
        with diffbir.Engine(bundle, **given) as engine:
            return engine.configuration
    except diffbir.DiffbirError as error:
        return str(error)


@pytest.fixture(autouse=True)
def _library_is_looked_for(engine, monkeypatch):
    """Keep the package from naming an installed ONNX Runtime, which it does in a fresh process."""
    del engine
    monkeypatch.setattr(_engine._runtime, "installed", lambda: None)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["key"])
def test_an_option_reaches_the_engine_by_setting_text_and_file(bundle, tmp_path, sample):
    key, value, others = sample["key"], sample["value"], sample.get("with", [])
    section, name = key.split(".")
    text = json.dumps({section: {name: value}})
    file = tmp_path / "c.yaml"
    file.write_text(text)
    by_setting = configuration(bundle, settings=[*others, f"{key}={json.dumps(value)}"])
    if isinstance(by_setting, str):
        assert sample.get("refused", "no refusal is expected") in by_setting
    else:
        assert value_of(by_setting, key) == value
    assert configuration(bundle, yaml=text, settings=others) == by_setting
    assert configuration(bundle, config=file, settings=others) == by_setting


def outcome(engine, picture, **given):
    """Return how a picture was made, or the message that refuses it."""
    try:
        return engine.restore(picture, **given).provenance
    except diffbir.DiffbirError as error:
        return str(error)


@pytest.mark.parametrize("key", KEYWORDS)
def test_a_keyword_is_the_setting_of_its_key(engine, colours, key):
    sample = next(sample for sample in SAMPLES if sample["key"] == key)
    value = 2 if key == "sampling.strength" else sample["value"]
    # A size and `upscale` are refused together.
    without = {KEYWORDS[key], "upscale"} if key.startswith("size.") else {KEYWORDS[key]}
    fast = {name: given for name, given in FAST.items() if name not in without}
    by_keyword = outcome(engine, colours, **fast, **{KEYWORDS[key]: value})
    by_setting = outcome(engine, colours, **fast, settings=[f"{key}={json.dumps(value)}"])
    assert by_keyword == by_setting
    assert by_keyword != outcome(engine, colours, **fast)


def test_every_keyword_is_in_the_table():
    keys = {sample["key"] for sample in SAMPLES}
    assert set(KEYWORDS) <= keys
    others = {"settings", "progress", "cancel"}
    assert set(KEYWORDS.values()) | others == set(_engine.Options.__annotations__)
