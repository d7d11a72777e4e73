"""Region agreement: do a map's shares put the regions in the order of what hiding each does to the score?"""

from __future__ import annotations

import warnings

import numpy as np

from xface.evidence.checks.check import CHECKS, Check, Figure, Subject, Values, Words
from xface.results import FloatArray

LEAST = 4  # regions: of fewer, an order says nothing


def rank_correlations(rows: FloatArray, truth: FloatArray) -> FloatArray:
    """Spearman's correlation of each row (A, R) with the truth (R,), where both are defined; NaN for none.

    Example:
        >>> rows = np.array([[1.0, 2.0, 3.0, 9.0], [4.0, 3.0, 2.0, 1.0]])
        >>> rank_correlations(rows, np.array([0.1, 0.2, 0.3, 0.4])).round(6)
        array([ 1., -1.])
    """
    from scipy.stats import spearmanr

    found = np.full(len(rows), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant row, which is undefined
        for place, row in enumerate(rows):
            known = np.isfinite(row) & np.isfinite(truth)
            if known.sum() >= LEAST:
                found[place] = spearmanr(row[known], truth[known]).statistic
    return found


def region_agreement(subject: Subject) -> Values:
    """The correlation of each map's shares, per area and not, with the effects; none for the effects."""
    is_map = np.isfinite(subject.shares).any(axis=1, keepdims=True)
    per_area = np.where(is_map, subject.ranks, np.nan)
    return {
        Figure("agreement"): rank_correlations(per_area, subject.effects),
        Figure("agreement_share"): rank_correlations(subject.shares, subject.effects),
    }


CHECKS.add(
    "region_agreement",
    Check(
        region_agreement,
        {
            "agreement": Words(
                "agreement with effects, per area",
                "rank correlation of each region's share per area with the effect of hiding it; 0 is chance; "
                "effects are the reference, and have no figure",
                limits=(-1, 1),
                ranks=True,
            ),
            "agreement_share": Words(
                "agreement with effects, shares",
                "rank correlation of each region's share with its effect; 0 is chance",
                limits=(-1, 1),
            ),
        },
        source="xface",
    ),
)
