"""Effect sizes, and corrections for many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import SEED

ALPHA = 0.05


def cliffs_delta(first: FloatArray, second: FloatArray) -> FloatArray:
    """P(a > b) - P(a < b) for a in `first` (M, K) and b in `second` (N, K), column by column (Cliff 1993).

    From -1 (every a below every b) to 1; from the statistic U of Mann and Whitney, 2 U / (M N) - 1. NaN is
    left out.

    Example:
        >>> cliffs_delta(np.array([[3.0], [1.0]]), np.array([[2.0], [0.0]]))
        array([0.5])
    """
    return np.array(
        [_delta(a[np.isfinite(a)], b[np.isfinite(b)]) for a, b in zip(first.T, second.T, strict=True)]
    )


def _delta(first: FloatArray, second: FloatArray) -> float:
    from scipy.stats import rankdata

    count, pairs = len(first), len(first) * len(second)
    if not pairs:
        return float("nan")
    ranks = rankdata(np.concatenate([first, second]))[:count].sum()
    return float(2 * (ranks - count * (count + 1) / 2) / pairs - 1)


def false_discovery(ps: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's q of each p (scipy's).

    Example:
        >>> false_discovery([0.01, 0.04]), false_discovery([])
        ([0.02, 0.04], [])
    """
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(ps)] if len(ps) else []


def against_all(families: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Each p of some families, corrected for all of them (Holm 1979); None stays None.

    The ps of a family are corrected for it already, so its least is the family's own; families are taken by
    that, and the first of m counts m times, the next m - 1 times, ... At most 5 % of runs with nothing there
    have any result of at most 5 %, however families depend on one another.

    Example:
        >>> against_all([[0.02, 0.5], [0.01], [None]])
        [[0.02, 0.5], [0.02], [None]]
    """
    least = [min((p for p in ps if p is not None), default=None) for ps in families]
    tested = sorted((p, place) for place, p in enumerate(least) if p is not None)
    found: list[list[float | None]] = [list(ps) for ps in families]
    before = 0.0
    for rank, (p, place) in enumerate(tested):
        times = len(tested) - rank
        found[place] = [q if q is None else min(1.0, max(before, times * q)) for q in families[place]]
        before = min(1.0, max(before, times * p))
    return found


LEAST_EXPECTED = 5  # below, chi-squared is not the table's distribution (Cochran 1954)


def unevenness(counts: Sequence[tuple[int, int]]) -> float | None:
    """p that rows of (so many amiss, of so many) have one rate; None where there is nothing to compare.

    Example:
        >>> round(unevenness([(3, 4), (1, 4)]), 2), unevenness([(0, 4), (0, 9)])
        (0.49, None)
    """
    from scipy.stats import MonteCarloMethod, chi2_contingency, fisher_exact
    from scipy.stats.contingency import expected_freq

    table = np.array([(bad, of - bad) for bad, of in counts if of]).reshape(-1, 2)
    if len(table) < 2 or (table.sum(axis=0) == 0).any():
        return None
    if expected_freq(table).min() >= LEAST_EXPECTED:
        return float(chi2_contingency(table, correction=False).pvalue)
    if len(table) == 2:
        return float(fisher_exact(table).pvalue)
    found = fisher_exact(table, method=MonteCarloMethod(rng=np.random.default_rng(SEED)))
    return float(np.asarray(found.pvalue).item())  # of few images scipy gives an array of one number
