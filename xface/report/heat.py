"""How a map becomes colours: one scale per map, dark to bright, on the face in grey."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np

from xface.results import AttributionMap, ByteArray, FloatArray

COLOURS = "inferno"
"""Brightness rises all along it, so it reads without colour vision and in grey print."""

FINE_CELLS = 2000
FINE_PERCENTILE = 99.5
GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Heat:
    """A map's amount (H, W) with the values that its darkest and brightest colour stand for.

    The cells of a fine map (gradients, and CAMs of early layers) spread over orders of magnitude: the highest
    0.5 % share the last colour, and `clipped` says so.
    """

    amount: FloatArray
    top: float
    clipped: bool


def heat_of(amap: AttributionMap, size: tuple[int, int]) -> Heat | None:
    """Return the heat of a map, or None if its status leaves nothing to show."""
    if amap.status != "ok":
        return None
    amount = amap.amount(size)
    clipped = amap.values.shape[-2] * amap.values.shape[-1] >= FINE_CELLS
    top = float(np.percentile(amount, FINE_PERCENTILE)) if clipped else float(amount.max())
    return Heat(amount, top or float(amount.max()), clipped)


def blend(heat: Heat, view: ByteArray) -> ByteArray:
    """Return the heat's colours over the face in grey, (H, W, 3); the more heat, the less face."""
    level = np.clip(heat.amount / heat.top, 0, 1)
    grey = (view @ GREY)[..., None] * 0.6
    colours = matplotlib.colormaps[COLOURS](level)[..., :3] * 255
    weight = (0.25 + 0.75 * level)[..., None]
    return np.asarray((1 - weight) * grey + weight * colours).round().astype(np.uint8)
