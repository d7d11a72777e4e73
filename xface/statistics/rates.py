"""A rate with an interval that holds for rare errors, and for none, in images that come in groups."""

from __future__ import annotations

import numpy as np

from xface.statistics.bootstrap import LEAST_GROUPS, LEVEL, Estimate
from xface.statistics.means import Codes, Mask, group_sums


def rate(of: Mask, among: Mask, codes: Codes) -> Estimate:
    """The part of the rows `among` for which `of` holds, with its 95 % interval over groups `codes` (N,).

    Clopper and Pearson's interval for as many independent images as tell as much: n* = p (1 - p) / se^2, with
    se that of a ratio of group sums, at most the images there are, and less the fewer groups se rests on
    (Korn and Graubard, Survey Methodology 1998; here two more than have rows of the rarer kind, as all groups
    gave intervals that were too narrow for rare errors). Where all rows are alike se is unknown, and each
    group counts as one image; of independent images each counts. A bootstrap has no interval there, and
    often none for small rates. There is none here from fewer than 10 groups.

    Example:
        >>> rows = np.arange(40)
        >>> found = rate(rows < 0, rows >= 0, rows)
        >>> found.value, found.low, round(found.high, 3)
        (0.0, 0.0, 0.088)
        >>> rate(rows < 0, rows < 0, rows)
        Estimate(value=None, low=None, high=None)
    """
    count, hits = int(among.sum()), of[among]
    if not count:
        return Estimate(None)
    part = float(hits.mean())
    numbers = np.unique(codes[among], return_inverse=True)[1]
    groups = int(numbers.max()) + 1
    if groups < LEAST_GROUPS:
        return Estimate(part)
    return Estimate(part, *_clopper_pearson(part, _effective(hits, part, numbers, groups)))


def _effective(hits: Mask, part: float, numbers: Codes, groups: int) -> float:
    """How many independent images would tell as much."""
    from scipy.stats import t

    if part in (0, 1) or groups == len(hits):
        return float(groups)
    apart, *kinds = group_sums(np.stack([hits - part, hits, ~hits], axis=1), numbers, groups).T
    variance = groups / (groups - 1) * float(apart @ apart) / len(hits) ** 2
    rarer = min(np.count_nonzero(kind) for kind in kinds)
    one, other = (t.ppf((1 + LEVEL) / 2, freedom) for freedom in (len(hits) - 1, min(rarer + 2, groups - 1)))
    return float(min(part * (1 - part) / max(variance, 1e-300) * (one / other) ** 2, len(hits)))


def _clopper_pearson(part: float, count: float) -> tuple[float, float]:
    from scipy.stats import beta

    hits = part * count
    low = 0.0 if part == 0 else float(beta.ppf((1 - LEVEL) / 2, hits, count - hits + 1))
    return low, 1.0 if part == 1 else float(beta.ppf((1 + LEVEL) / 2, hits + 1, count - hits))
