"""SCUNet with stages that have no blocks."""

from dataclasses import replace

import pytest

from diffbir_export import build, plan
from diffbir_export.weights import RandomWeights


@pytest.mark.parametrize("blocks", [(0, 1, 0, 0, 0, 0, 0), (0, 0, 0, 1, 0, 1, 0)])
def test_any_stage_may_be_empty(tiny, tmp_path, blocks):
    """The graph takes every size, and computes what the module does: the export verifies that."""
    sizes = replace(tiny, scunet=replace(tiny.scunet, config=blocks))
    asked = plan.Request("v2", sizes, tmp_path, {}, seed=0, tasks=("denoise",))
    [chosen] = plan.cleaner_plans(asked)
    entry = build.export_graph(chosen, asked, RandomWeights(0), tmp_path, lambda line: None)
    assert len(entry["verified"]) == 4
