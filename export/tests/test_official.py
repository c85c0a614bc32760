"""The official sizes, without memory: parameter counts and every checkpoint key and shape.

`official_keys.json` was made from the reference's own classes at 3f8b530: for each checkpoint the
number of keys and parameters, and the sha256 of the sorted lines `key shape`.
"""

import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path

import pytest

from diffbir_export import config, keys, plan
from diffbir_export.weights import expected, on_meta

FACTS = json.loads((Path(__file__).parent / "official_keys.json").read_text())


@pytest.fixture(scope="module")
def official():
    """Role -> key -> shape, over all graphs of v2."""
    sizes = config.load(None, "v2")
    request = plan.Request("v2", sizes, Path(), {}, seed=0, tasks=("sr", "face", "denoise"))
    needed = defaultdict(dict)
    for graph in plan.graph_plans(request):
        for source, shape in expected(on_meta(graph.build), graph.keys).items():
            needed[source.role][source.key] = shape
    return needed


def digest(shapes):
    lines = sorted(f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "role"),
    [("control", "control"), ("bsrnet", "cleaner.sr"), ("swinir", "cleaner.face"),
     ("scunet", "cleaner.denoise")],
)  # fmt: skip
def test_keys_and_shapes(official, name, role):
    assert len(official[role]) == FACTS[name]["keys"]
    assert digest(official[role]) == FACTS[name]["sha256"]


def test_stable_diffusion_keys_and_shapes(official):
    """All keys but those of the text tower's last block and contrastive head."""
    assert len(official["sd"]) == FACTS["sd"]["keys"]
    assert digest(official["sd"]) == FACTS["sd"]["sha256"]
    assert not [key for key in official["sd"] if ".resblocks.23." in key]


@pytest.mark.parametrize(
    ("role", "prefix", "millions"),
    [("sd", "model.diffusion_model.", 865.9), ("control", "", 363.2),
     ("sd", "first_stage_model.encoder.", 34.2), ("sd", "first_stage_model.decoder.", 49.5),
     ("cleaner.face", "", 15.8), ("cleaner.sr", "", 16.7)],
)  # fmt: skip
def test_published_parameter_counts(official, role, prefix, millions):
    shapes = [s for key, s in official[role].items() if key.startswith(prefix)]
    assert sum(map(math.prod, shapes)) / 1e6 == pytest.approx(millions, abs=0.06)


def test_only_the_block_that_is_not_run_is_ignored():
    patterns = keys.ignored_patterns("sd", None, config.load(None, "v1"))
    text = "".join(patterns)
    assert r"resblocks\.23\." in text
    assert r"resblocks\.22\." not in text
