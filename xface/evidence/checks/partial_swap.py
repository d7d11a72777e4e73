"""Partial swap: of a real face with one region pasted from its forgery, is that region named first?"""

from __future__ import annotations

import numpy as np

from xface.evidence.checks.check import CHECKS, Check, Figure, Subject, Values, Words, face_regions
from xface.results import FloatArray

LEAST_RISE = 0.7
"""Logits by which the pasted region must raise the score, so that it is known to decide."""

STRENGTHS = (LEAST_RISE, 1.4, 2.8)
"""Where the bands of the rise begin."""


def named_first(ranks: FloatArray, region: str) -> FloatArray:
    """1 where a row (A, R) has its highest value at a region, 0 where not, a part where regions tie.

    A row that is undefined names none.

    Example:
        >>> rows = np.full((2, 10), np.nan)
        >>> rows[0, :2] = 1.0
        >>> named_first(rows, "right_eye")
        array([0.5, 0. ])
    """
    known = np.where(np.isfinite(ranks), ranks, -np.inf)
    highest = (known == known.max(axis=1, keepdims=True)) & np.isfinite(known)
    return np.asarray(highest[:, face_regions().index(region)] / np.maximum(highest.sum(axis=1), 1))


def band(rise: float) -> str:
    """The band of a rise, in words.

    Example:
        >>> band(0.9), band(5.0)
        ('0.7 to 1.4', 'over 2.8')
    """
    place = int(np.searchsorted(STRENGTHS, rise, side="right")) - 1
    return (
        f"{STRENGTHS[place]} to {STRENGTHS[place + 1]}"
        if place + 1 < len(STRENGTHS)
        else f"over {STRENGTHS[place]}"
    )


def partial_swap(subject: Subject) -> Values:
    """Whether each answer names the pasted region first: of all cases, by region, and by strength."""
    if subject.pasted is None:
        return {}
    found = named_first(subject.ranks, subject.pasted)
    places = [("", ""), ("region", subject.pasted), ("strength", band(subject.rise))]
    return {Figure("partial_swap", *place): found for place in places}


CHECKS.add(
    "partial_swap",
    Check(
        partial_swap,
        {
            "partial_swap": Words(
                "names the forged region first",
                "how often the region pasted into a real face, which raised the score by 0.7 logits or more, "
                "has the highest share per area, or for effects the largest effect; effects are at an "
                "advantage, as they hide with the masks that regions are pasted with",
                limits=(0, 1),
                percent=True,
                ranks=True,
            )
        },
        source="xface",
        of="swap",
    ),
)
