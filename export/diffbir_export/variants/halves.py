"""Reuse of the control module between steps: the denoiser as two networks.

The control module sees x_t too, but what it says of the condition changes slowly from step to step.
So one graph makes its 13 residuals, times their strengths, and another the output from them and
x_t; the second may be run on residuals of an earlier step.
"""

from __future__ import annotations

from .graph import Graph

COUNT = 13
CONTROL_ONLY = ("hint", "strength")
SCALARS = ("Cast", "Gather", "Slice", "Squeeze")
"""What takes an entry out of `strength`."""


def residuals(graph: Graph) -> list[str]:
    """The products with an entry of `strength`, in the order of the nodes."""
    entries, found = {"strength"}, []
    for node in graph.nodes:
        if node.input[0] in entries and node.op_type in SCALARS:
            entries.update(node.output)
        elif node.op_type == "Mul" and entries & set(node.input):
            found.append(node.output[0])
    if len(found) != COUNT:
        raise graph.refuse(f"{len(found)} products with strengths, not {COUNT}")
    return found


def halves(graph: Graph, batch: str) -> tuple[Graph, Graph]:
    """Control module and UNet under the contracts of their kinds; residuals have `batch` rows."""
    graph.sort()
    control = graph.copy()
    values = []
    for i, old in enumerate(residuals(control)):
        value = control.describe(old, batch)
        value.name = f"control_{i}"
        control.rename(old, value.name)
        values.append(value)
    unet = control.copy()
    control.outputs = values
    for value in values:
        unet.drop(unet.maker(value.name))
    unet.inputs = [v for v in unet.inputs if v.name not in CONTROL_ONLY] + values
    for half in (control, unet):
        half.sort()
    return control, unet
