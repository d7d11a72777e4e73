"""The colours of lifts: purple below chance, white at it, orange above, told apart by all colour vision."""

from __future__ import annotations

import math

import matplotlib

COLOURS = "PuOr_r"
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
    shade = matplotlib.colormaps[COLOURS]((level + 1) / 2)
    return "#" + "".join(f"{round(255 * part):02x}" for part in shade[:3])


def is_dark(colour: str) -> bool:
    """Whether white letters read better on it than black ones (ITU-R BT.601 luma below one half)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128
