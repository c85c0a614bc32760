"""Which layers are quantised: those that cost least for what they save, up to a loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

from ..errors import ExportError
from .sensitivity import Unit

TRIES = 8
"""Graphs that are made and measured at most."""


def ordered(units: list[Unit]) -> list[Unit]:
    """Those first that cost least for what they save.

    Layers' errors have little to do with each other and add up in squares; so do the costs.
    """
    return sorted(units, key=lambda unit: unit.error**2 / unit.saved)


def predicted(units: list[Unit]) -> list[float]:
    """The loss with the first unit quantised, with the first two, and so on."""
    return [math.sqrt(total) for total in accumulate(unit.error**2 for unit in units)]


def fitting(losses: list[float], bound: float) -> int:
    """How many units, from the first on, are predicted to stay within a bound."""
    return sum(loss <= bound for loss in losses)


def choose(
    units: list[Unit], bound: float, measure: Callable[[list[Unit]], float], graph: str
) -> tuple[list[Unit], float]:
    """The units to be quantised, and the loss that `measure` finds with them: within the bound.

    A prediction that is off by a factor is taken to be off by the same one nearby.
    """
    units = ordered(units)
    losses = predicted(units)
    # The most that was found to fit, and the least that was found not to.
    most, least, found = 0, len(units) + 1, 0.0
    count = fitting(losses, bound)
    for _ in range(TRIES):
        count = min(max(count, most + 1), least - 1)
        if count <= most:
            break
        loss = measure(units[:count])
        if loss <= bound:
            most, found = count, loss
        else:
            least = count
        count = fitting(losses, bound * losses[count - 1] / loss) if loss else len(units)
    if not most:
        raise ExportError(f"{graph}: no layer can be quantised within a loss of {bound:g}")
    return units[:most], found
