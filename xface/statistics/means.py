"""Means and differences of means over images that come in groups, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xface.results import FloatArray
from xface.statistics.bootstrap import (
    CELLS,
    LEAST_GROUPS,
    LEVEL,
    MOST_UNDEFINED,
    RESAMPLES,
    SEED,
    Estimate,
    finite,
)

COLUMNS = 64  # worked on at once, at most
MOMENTS = 2**20  # groups x columns worked on at once: ten arrays of 8 MB
Mask = NDArray[np.bool_]
Codes = NDArray[np.intp]


def group_sums(values: FloatArray | Mask, codes: Codes, groups: int) -> FloatArray:
    """The sum of each column (N, K) over each group: (groups, K).

    Example:
        >>> group_sums(np.array([[1.0], [2.0], [4.0]]), np.array([0, 1, 0]), 2).ravel()
        array([5., 2.])
    """
    from scipy.sparse import csr_array

    count = len(codes)
    member = csr_array((np.ones(count), (codes, np.arange(count))), shape=(groups, count))
    return np.asarray(member @ np.asarray(values, np.float64))


def groups_with(defined: Mask, codes: Codes) -> Codes:
    """In how many groups each column (N, K) is defined for at least one image."""
    groups, columns = int(codes.max(initial=-1)) + 1, defined.shape[1]
    some = np.array_split(defined, -(-columns // COLUMNS) or 1, axis=1)  # sums are eight times as large
    counts = [np.count_nonzero(group_sums(each, codes, groups), axis=0) for each in some]
    return np.asarray(np.concatenate(counts), np.intp)


def mean_differences(
    values: FloatArray,
    first: Mask,
    second: Mask | None,
    codes: Codes,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Estimate]:
    """Mean over the rows `first` minus that over `second` (if given) of K columns, with 95 % intervals.

    Groups are drawn with replacement, each with all its rows; a resample gives t* = (d* - d) / se*, with se
    the infinitesimal jackknife's over groups, and the interval is d plus and minus se times the 95th
    percentile of |t*| (the symmetric bootstrap-t: Hall, J. R. Stat. Soc. B 1988), but no less than Student's
    t for the side with fewer groups G, G / (G - 1) times (as if each group were compared with the mean of the
    others: HC3, MacKinnon and White 1985). Where groups are few or the numbers long-tailed, percentiles hold
    the truth too seldom, and so does bootstrap-t where the few groups miss the long tail. NaN in `values`
    (N, K) is left out. No interval where a side has fewer than 10 groups, or where more than 5 % of the
    resamples are undefined or nothing varies.

    Example:
        >>> rows = np.arange(40.0)[:, None]
        >>> [found] = mean_differences(rows, rows[:, 0] >= 20, rows[:, 0] < 20, np.arange(40))
        >>> found.value, round(found.low), round(found.high)
        (20.0, 16, 24)
    """
    sides = [side for side in (first, second) if side is not None]
    return [
        _interval(*each)
        for found in _resampled(values, sides, codes, resamples, seed)
        for each in zip(found.value, found.error, found.scaled.T, found.least, strict=True)
    ]


def widening(values: FloatArray, codes: Codes, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """By how much the intervals of K columns' means must be wider for all to hold the truth in 95 % of cases.

    The intervals are those of `mean_differences` of all rows. Each column's |t*| is measured by its own 95th
    percentile, and the factor is the 95th percentile of the greatest of them in each resample (balanced
    simultaneous intervals: Beran, J. Am. Stat. Assoc. 1988); columns that rise and fall together cost
    little. 1 for a single column, and where none has an interval.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(40, 3))
        >>> [round(widening(each, np.arange(40)), 2) for each in (rows, rows[:, [0, 0, 0]])]
        [1.25, 1.0]
    """
    if values.shape[1] < 2:
        return 1.0
    every = np.ones(len(values), bool)
    scaled = np.hstack([found.scaled for found in _resampled(values, [every], codes, resamples, seed)])
    size = np.where(np.isfinite(scaled), np.abs(scaled), np.nan)
    size = size[:, np.isfinite(size).sum(axis=0) >= (1 - MOST_UNDEFINED) * resamples]
    usual = np.nanquantile(size, LEVEL, axis=0) if size.size else np.zeros(size.shape[1])
    if not (usual > 0).any():
        return 1.0
    greatest = np.max(np.nan_to_num(size[:, usual > 0]) / usual[usual > 0], axis=1)
    return max(1.0, float(np.quantile(greatest, LEVEL)))


def proportion(of: Mask, among: Mask, codes: Codes) -> Estimate:
    """The part of the rows `among` for which `of` holds, with its interval, which ends at 0 and 1.

    Example:
        >>> proportion(np.arange(40) < 10, np.ones(40, bool), np.arange(40)).value
        0.25
    """
    [found] = mean_differences(of[:, None].astype(np.float64), among, None, codes)
    return within(found, 0.0, 1.0)


def within(found: Estimate, least: float, most: float) -> Estimate:
    """With an interval that ends where the number can go no further."""
    if found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(found.low, least), min(found.high, most))


class _Resampled(NamedTuple):
    """Of K columns: value and standard error (K,), t* of each resample (B, K), least reach in errors (K,)."""

    value: FloatArray
    error: FloatArray
    scaled: FloatArray
    least: FloatArray


def _resampled(
    values: FloatArray, sides: list[Mask], codes: Codes, resamples: int, seed: int
) -> Iterator[_Resampled]:
    """Some columns at a time, all with the same draws of groups."""
    used = np.unique(codes[np.logical_or.reduce(sides)])
    numbers = np.searchsorted(used, codes)
    size = max(1, min(COLUMNS, MOMENTS // max(1, len(used))))
    for start in range(0, values.shape[1], size):
        parts = _parts(values[:, start : start + size], sides, numbers, len(used))
        yield _of_parts(parts, resamples, seed)


def _parts(values: FloatArray, sides: list[Mask], numbers: Codes, groups: int) -> FloatArray:
    """Sums and counts of each side per group: (2 or 4, groups, K)."""
    parts = []
    for side in sides:
        rows = values[side]
        parts.append(group_sums(np.nan_to_num(rows), numbers[side], groups))
        parts.append(group_sums(np.isfinite(rows), numbers[side], groups))
    return np.stack(parts)


def _of_parts(parts: FloatArray, resamples: int, seed: int) -> _Resampled:
    groups = parts.shape[1]
    pairs = {(i, j): parts[i] * parts[j] for i in range(len(parts)) for j in range(i + 1)}
    with np.errstate(divide="ignore", invalid="ignore"):
        [value], [error] = _studentised(np.ones((1, groups)), parts, pairs)
        if groups < LEAST_GROUPS:
            return _Resampled(value, error, np.empty((0, len(value))), np.full(len(value), np.nan))
        drawn = [_studentised(w, parts, pairs) for w in _draws(groups, resamples, seed)]
        means, errors = (np.concatenate(each) for each in zip(*drawn, strict=True))
        scaled = (means - value) / errors
    least = _least_reach((parts[1::2] > 0).sum(axis=1).min(axis=0))
    return _Resampled(value, error, scaled, least)


def _least_reach(groups: Codes) -> FloatArray:
    """The least reach of an interval in errors, by the groups of the smaller side (K,); NaN for too few."""
    from scipy.stats import t

    known = np.where(groups < LEAST_GROUPS, np.nan, groups)
    return np.asarray(t.ppf((1 + LEVEL) / 2, known - 1) * known / (known - 1))


def _draws(groups: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each group is drawn in each resample: (B, groups), some resamples at a time."""
    rng = np.random.default_rng(seed)
    size = max(1, CELLS // groups)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        draws = rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        yield np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)


def _studentised(
    weights: FloatArray, parts: FloatArray, pairs: dict[tuple[int, int], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """The difference and its standard error for weights (B, groups), each (B, K).

    With totals S and N of a side, group g moves the mean S / N by (s_g - n_g S / N) / N; the variance is the
    sum over groups of the square of what it moves the difference by, as a quadratic form of the parts.
    """
    totals = [weights @ part for part in parts]
    value, slopes = np.zeros_like(totals[0]), []
    for sign, total, count in zip((1, -1), totals[::2], totals[1::2], strict=False):
        value += sign * total / count
        slopes += [sign / count, -sign * total / count**2]
    variance = sum(
        (1 + (i != j)) * slopes[i] * slopes[j] * (weights @ pair) for (i, j), pair in pairs.items()
    )
    return value, np.sqrt(np.maximum(variance, 0))


def _interval(value: float, error: float, scaled: FloatArray, least: float) -> Estimate:
    defined = scaled[np.isfinite(scaled)]
    known = np.isfinite(value) and np.isfinite(least) and error > 0
    if not known or len(defined) < (1 - MOST_UNDEFINED) * len(scaled):
        return Estimate(finite(value))
    reach = error * max(np.quantile(np.abs(defined), LEVEL), least)
    return Estimate(float(value), float(value - reach), float(value + reach))
