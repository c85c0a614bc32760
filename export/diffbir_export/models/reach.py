"""How far from an output pixel the input pixels lie that it depends on.

Each network is walked backwards along one axis, with the interval of pixels that matter. Windows
stand at fixed places, so the walk starts from every output pixel of one period.
"""

from __future__ import annotations

from collections.abc import Sequence


def upsampling(low: int, high: int, doublings: int) -> tuple[int, int]:
    """Two 3x3 convolutions, and before them nearest doublings with a convolution behind each."""
    low, high = low - 2, high + 2
    for _ in range(doublings):
        low, high = (low - 1) // 2, (high + 1) // 2
    return low, high


def windows(low: int, high: int, window: int, shift: int) -> tuple[int, int]:
    """The interval widened to whole windows, which start at multiples of `window` plus `shift`."""
    low, high = (low - shift) // window, (high - shift) // window
    return low * window + shift, (high + 1) * window + shift - 1


def swinir(depths: Sequence[int], window: int, fold: int, doublings: int) -> int:
    """Largest distance in pixels for SwinIR on `fold`-fold unshuffled pixels.

    It holds for pictures, and for tiles of one, whose corner is a multiple of `window * fold`.
    """
    largest = 0
    for pixel in range(window << doublings):
        low, high = upsampling(pixel, pixel, doublings)
        low, high = low - 2, high + 2  # conv_before_upsample, conv_after_body
        for depth in reversed(depths):
            low, high = low - 1, high + 1
            for block in reversed(range(depth)):
                low, high = windows(low, high, window, window // 2 if block % 2 else 0)
        low, high = (low - 1) * fold, (high + 2) * fold - 1  # conv_first, pixel unshuffle
        place = pixel * fold >> doublings
        largest = max(largest, place - low, high - place)
    return largest


def rrdbnet(blocks: int, doublings: int, fold: int = 1) -> int:
    """Largest distance in input pixels for RRDBNet, convolutions alone, on `fold`-fold unshuffled
    pixels."""
    inner = 15 * blocks + 2  # three dense blocks of five, trunk_conv, conv_first
    largest = 0
    for pixel in range(1 << doublings):
        low, high = upsampling(pixel, pixel, doublings)
        low, high = (low - inner) * fold, (high + inner + 1) * fold - 1
        place = pixel * fold >> doublings
        largest = max(largest, place - low, high - place)
    return largest
