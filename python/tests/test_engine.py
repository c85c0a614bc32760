"""Engines: configuration, errors, facts, ONNX Runtime."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import FAST, ROOT

import diffbir
from diffbir import _runtime


def test_versions():
    assert diffbir.version() == diffbir.__version__
    assert diffbir.abi_version() >= 1
    assert diffbir.version() in diffbir.build_info()


def test_facts(engine, bundle):
    assert engine.bundle["dir"] == str(bundle)
    assert set(engine.bundle["tasks"]) == {"sr", "face", "denoise"}
    assert engine.runtime["version"] >= "1.31"
    assert engine.runtime["providers"] == ["cpu"]
    assert engine.runtime["passed_over"] == []
    assert engine.configuration["sampling"]["sampler"] == "spaced"


def test_provenance_and_samples(engine, colours):
    result = engine.restore(colours, **FAST, samples=2, prompt="", settings=["tiling.cldm=null"])
    assert len(result) == 2 and len(result[0:1]) == 1
    assert not np.array_equal(result[0].array(), result[1].array())
    sampling = result.provenance["sampling"]
    assert (sampling["sampler"], sampling["seed"], sampling["steps"]) == ("edm_euler", 7, 1)
    assert json.dumps(result.provenance)


def test_configuration_from_all_places(bundle, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("sampling: { steps: 3, seed: 1, strength: 0.5 }\n")
    engine = diffbir.Engine(
        str(bundle),
        config=config,
        yaml="sampling: { steps: 4, seed: 2 }",
        settings=["sampling.steps=5"],
        verify=True,
    )
    with engine:
        sampling = engine.configuration["sampling"]
    assert (sampling["steps"], sampling["seed"], sampling["strength"]) == (5, 2, 0.5)


def test_log_fits_logging(bundle, caplog):
    caplog.set_level(logging.INFO, "diffbir")
    with diffbir.Engine(bundle, verify=True, log=logging.getLogger("diffbir").log):
        pass
    messages = [record.message for record in caplog.records]
    assert any(message.startswith("ONNX Runtime ") for message in messages)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, diffbir.BundleError, "no bundle"),
        ({"bundle": "missing"}, diffbir.BundleError, "missing"),
        ({"config": "missing.yaml"}, diffbir.ConfigError, "missing.yaml"),
        ({"yaml": "sampling: { stepz: 3 }"}, diffbir.ConfigError, "did you mean `sampling.steps`"),
        ({"yaml": "a: ["}, diffbir.ConfigError, "config_yaml: not valid YAML"),
        ({"settings": "sampling.steps=3"}, TypeError, "settings is a str"),
        ({"queue_limit": -1}, diffbir.OptionError, "queue_limit is -1"),
        ({"yaml": b"x"}, TypeError, "yaml is a bytes, expected a str"),
        ({"yaml": "\ud800"}, diffbir.InvalidArgumentError, "not valid Unicode"),
    ],
)
def test_a_wrong_engine_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        diffbir.Engine(**arguments)


def test_a_cause_is_told_apart(engine):
    with pytest.raises(diffbir.InputError) as refused:
        engine.restore("missing.png", **FAST)
    assert refused.value.cause is not None
    assert refused.value.cause in str(refused.value)
    assert isinstance(refused.value, diffbir.DiffbirError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": -3}, "-3"),
        ({"steps": 2**40}, "expected 1 to 100000"),
        ({"samples": 0}, "samples is 0"),
        ({"seed": -1}, "-1"),
        ({"seed": 2**70}, "sampling.seed"),
        ({"upscale": float("nan")}, "restore.upscale"),
        ({"upscale": float("inf")}, "restore.upscale is inf"),
        ({"upscale": -2}, "upscale"),
        ({"width": 40, "upscale": 2}, "give one of restore.upscale"),
        ({"width": 40, "height": 30}, "give one of restore.upscale"),
        ({"width": 0}, "size.width is 0"),
        ({"size": "40"}, "size.pixels"),
        ({"size_mode": "exact"}, "acts with size.pixels"),
        ({"task": "colour"}, "this bundle serves denoise, face, sr"),
        ({"sampler": "edm_eular"}, "did you mean `edm_euler`"),
        ({"settings": ["bundle=x"]}, "a request cannot change them"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(engine, colours, options, message):
    with pytest.raises(diffbir.OptionError, match=message) as refused:
        engine.submit(colours, **options)
    assert refused.value.code == diffbir.Code.OPTION


def test_options_have_types(engine, colours):
    with pytest.raises(TypeError):
        engine.submit(colours, steps=2.5)
    with pytest.raises(TypeError):
        engine.submit(colours, prompt=3)
    with pytest.raises(diffbir.InvalidArgumentError, match="prompt has a NUL"):
        engine.submit(colours, prompt="a\0b")
    with pytest.raises(TypeError, match="settings is a str"):
        engine.submit(colours, settings="tiling.cldm=null")


def test_a_large_seed_and_numpy_numbers(engine, colours):
    result = engine.restore(
        colours, sampler="edm_euler", steps=np.int32(1), upscale=np.float32(1), seed=2**63
    )
    assert result.provenance["sampling"]["seed"] == 2**63


def test_a_result_has_the_size_that_is_asked_for(engine, colours):
    height, width = colours.shape[:2]
    for options, shape in (
        ({"size": (40, 24), "size_mode": "exact"}, (24, 40)),
        ({"size": "40x24", "size_mode": "fill"}, (24, 40)),
        ({"width": 40}, ((2 * height * 40 + width) // (2 * width), 40)),
    ):
        result = engine.restore(colours, sampler="edm_euler", steps=1, **options)
        assert result[0].array().shape[:2] == shape


def test_the_installed_package_is_the_default(engine):
    installed = _runtime.installed()
    if installed is None or os.environ.get("ORT_DYLIB_PATH"):
        pytest.skip("no package onnxruntime, or another library is named")
    assert engine.runtime["library"] == str(installed)
    assert engine.runtime["origin"] == "runtime.library"


def test_a_process_cannot_change_its_runtime(engine, bundle):
    with pytest.raises(diffbir.RuntimeUnavailableError, match="cannot change to"):
        diffbir.Engine(bundle, runtime_library="/other/libonnxruntime.so")
    diffbir.Engine(bundle, runtime_library="auto").close()


def test_a_named_runtime_does_not_disturb_later_engines(engine, bundle):
    """The default of a second engine is the library in use, whatever package is installed."""
    program = (
        "import diffbir, sys; e = diffbir.Engine(sys.argv[1], runtime_library=sys.argv[2]);"
        "print(diffbir.Engine(sys.argv[1]).runtime['library'])"
    )
    # The same file by another name: a library that is surely not the package's.
    other = "/." + engine.runtime["library"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, "-c", program, bundle, other]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == other


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
@pytest.mark.parametrize(("version", "fits"), [("1.30.2", False), ("1.31.0", True), ("2.0", True)])
def test_installed_packages_by_version(tmp_path, monkeypatch, name, version, fits):
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise RuntimeError('imported')")
    library = capi / f"libonnxruntime.so.{version}"
    library.touch()
    (capi / "libonnxruntime_providers_shared.so").touch()
    facts = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert _runtime.installed() == (library if fits else None)
    monkeypatch.chdir(tmp_path)
    assert _runtime.installed() is None, "a package of the working folder"


@pytest.mark.parametrize(
    ("yaml", "settings", "named"),
    [
        (None, [], False),
        ("runtime:\n  library: auto\n", [], False),
        ("runtime:\n  library: auto  # or library: /x\n", [], False),
        ("# library: /x\nruntime: { memory: keep }\n", [], False),
        ("runtime:\n  library: /x/libonnxruntime.so\n", [], True),
        ("runtime: { memory: keep, 'library': '/x' }\n", [], True),
        ('{"runtime": {"library":"/x"}}', [], True),
        (None, ["runtime.library=/x"], True),
        (None, ["runtime={ library: /x }"], True),
        (None, ["runtime.providers=[cpu]"], False),
    ],
)
def test_a_named_runtime_goes_over_the_package(tmp_path, monkeypatch, yaml, settings, named):
    monkeypatch.delenv("ORT_DYLIB_PATH", raising=False)
    assert _runtime.is_named(None, yaml, settings) is named
    if yaml is not None:
        config = tmp_path / "config.yaml"
        config.write_text(yaml)
        assert _runtime.is_named(config, None, settings) is named
    monkeypatch.setenv("ORT_DYLIB_PATH", "/x")
    assert _runtime.is_named(None, yaml, settings)
