"""Colours: of two classes; of a map, dark to bright, on the face in grey; of a lift, purple to orange."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from xface.results import AttributionMap, ByteArray, FloatArray

VERMILION, BLUE = "#d55e00", "#0072b2"
"""Of Okabe and Ito 2008, told apart by all kinds of colour vision; shapes, fill or hatching tell the same."""

DARK_VERMILION, DARK_BLUE = "#b34700", "#0061a8"
"""The same, darkened for letters and small marks on white."""

HEAT_COLOURS = "inferno"
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
    colours = matplotlib.colormaps[HEAT_COLOURS](level)[..., :3] * 255
    weight = (0.25 + 0.75 * level)[..., None]
    return np.asarray((1 - weight) * grey + weight * colours).round().astype(np.uint8)


LIFT_COLOURS = "PuOr_r"
"""ColorBrewer's purple to orange (Harrower and Brewer 2003), safe for colour-blind readers."""

LIMIT = 4.0  # times chance at which the scale ends, and a fraction of it at the other end
UNDEFINED = "#e8e8e8"


def lift_colour(lift: float | None) -> str:
    """The colour of a lift on a logarithmic scale from 1/4 to 4.

    Example:
        >>> lift_colour(1.0), lift_colour(None), lift_colour(100.0) == lift_colour(4.0)
        ('#f7f7f6', '#e8e8e8', True)
    """
    if lift is None or math.isnan(lift):
        return UNDEFINED
    level = math.log(min(max(lift, 1 / LIMIT), LIMIT)) / math.log(LIMIT)
    shade = matplotlib.colormaps[LIFT_COLOURS]((level + 1) / 2)
    return to_hex(shade)


def contrast(one: str, other: str) -> float:
    """How well two colours are told apart, from 1 (not at all) to 21 (WCAG 2.2; letters need 4.5).

    Example:
        >>> contrast("#ffffff", "#000000"), round(contrast("#767676", "#ffffff"), 2)
        (21.0, 4.54)
    """
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(colour: str) -> str:
    """Black or white: the colour of letters that reads better on this one.

    Example:
        >>> ink_on("#ffcc00"), ink_on("#542788")
        ('#000000', '#ffffff')
    """
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, colour))


def _luminance(colour: str) -> float:
    """The relative luminance of sRGB, from 0 to 1."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
