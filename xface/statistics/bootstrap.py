"""The bootstrap over groups: what belongs together is drawn together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xface.results import FloatArray

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
LEAST_GROUPS = 10
MOST_UNDEFINED = 0.05
CELLS = 2**20  # weights held at once, 8 MB

Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""From weights (B, N), how often each row is drawn in each of B resamples, to K values of each: (K, B)."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where it, or the interval, is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return `value`, `low` and `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


def group_codes(groups: Sequence[str] | NDArray[Any] | None, count: int) -> NDArray[np.intp]:
    """The number of each row's group (N,), from 0 on; a row whose group is "" is a group of its own.

    Example:
        >>> group_codes(["b", "", "a", "", "b"], 5)
        array([1, 2, 0, 3, 1])
    """
    names = np.asarray([""] * count if groups is None else groups, dtype=str)
    known, codes = np.unique(names, return_inverse=True)
    alone = names == ""
    if alone.any():
        codes = codes - (known == "").sum()  # "" sorts first
        codes[alone] = len(known) - 1 + np.arange(alone.sum())
    return np.asarray(codes, np.intp)


def estimate(
    statistic: Statistic,
    groups: Sequence[str] | NDArray[Any] | None,
    count: int,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    reverse: Sequence[bool] | None = None,
) -> list[Estimate]:
    """Numbers (K,) of `count` rows with 95 % intervals from resampled groups (Efron 1979; drawn by scipy).

    Groups are drawn with replacement, as many as there are, each with all of its rows, and the interval runs
    between the 2.5th and 97.5th percentile of what the resamples give (undefined ones left out). Where
    `reverse` holds it is mirrored at the value, 2v - q (the basic interval), for statistics whose bias comes
    again in every resample. There is no interval from fewer than 10 groups, where more than 5 % of the
    resamples are undefined, or where all of them agree: then the bootstrap knows nothing of the spread.

    Example:
        >>> rows = np.arange(40.0)
        >>> [mean] = estimate(lambda w: (w @ rows / w.sum(axis=1))[None], None, 40, seed=1)
        >>> mean.value, round(mean.low), round(mean.high)
        (19.5, 16, 23)
    """
    codes = group_codes(groups, count)
    values = statistic(np.ones((1, count)))[:, 0]
    if count == 0 or codes.max() + 1 < LEAST_GROUPS:
        return [Estimate(finite(value)) for value in values]
    flags = [False] * len(values) if reverse is None else reverse
    rows = _resampled(statistic, codes, resamples, seed)
    return [_interval(*each) for each in zip(values, rows, flags, strict=True)]


def _resampled(statistic: Statistic, codes: NDArray[np.intp], resamples: int, seed: int) -> FloatArray:
    from scipy.stats import bootstrap

    groups = int(codes.max()) + 1

    def of_draws(draws: NDArray[np.intp], axis: int) -> FloatArray:
        draws = np.atleast_2d(draws)
        numbered = draws + groups * np.arange(len(draws))[:, None]
        drawn = np.bincount(numbered.ravel(), minlength=draws.size).reshape(draws.shape)
        return statistic(drawn[:, codes].astype(np.float64))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's own interval, of undefined resamples too, is not used
        found = bootstrap(
            (np.arange(groups),),
            of_draws,
            n_resamples=resamples,
            batch=max(1, CELLS // len(codes)),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return np.asarray(found.bootstrap_distribution)


def _interval(value: float, row: FloatArray, reverse: bool) -> Estimate:
    defined = row[np.isfinite(row)]
    if not np.isfinite(value) or len(defined) < (1 - MOST_UNDEFINED) * len(row) or np.ptp(defined) == 0:
        return Estimate(finite(value))
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if reverse:
        low, high = 2 * value - high, 2 * value - low
    return Estimate(float(value), float(low), float(high))


def finite(value: float) -> float | None:
    """The number, None if it is not finite.

    Example:
        >>> finite(0.5), finite(float("nan"))
        (0.5, None)
    """
    return float(value) if np.isfinite(value) else None
