"""The threshold that is best by a criterion, and how often it is wrong on images that did not choose it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from xface.errors import UsageError
from xface.registry import Registry
from xface.results import FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS, SEED, Estimate
from xface.statistics.means import Codes, Mask
from xface.statistics.metrics import (
    Confusion,
    accuracy,
    as_arrays,
    balanced_accuracy,
    confusions,
    f1,
    recall,
    specificity,
)
from xface.statistics.rates import rate

DEFAULT = 0.5

Criterion: TypeAlias = Callable[[Confusion], FloatArray]
"""What a threshold makes as large as it can; of confusion matrices, one per threshold."""

CRITERIA = Registry[Criterion]("criterion")
CRITERIA.add("balanced_accuracy", balanced_accuracy)
CRITERIA.add("accuracy", accuracy)
CRITERIA.add("f1", f1)
CRITERIA.add("eer", lambda cuts: -np.abs(recall(cuts) - specificity(cuts)))


def at_false_positive_rate(most: float) -> Criterion:
    """As high a recall as there is while the false positive rate is at most this.

    Example:
        >>> labels, scores = [True, True, False, False], [0.9, 0.4, 0.6, 0.1]
        >>> choose_threshold(labels, scores, at_false_positive_rate(0.0))
        0.75
    """
    return lambda cuts: np.where(1 - specificity(cuts) <= most + 1e-12, recall(cuts), -np.inf)


def at_cost(false_positive: float, false_negative: float) -> Criterion:
    """As low a cost as there is, a false positive and a false negative costing so much.

    Example:
        >>> labels, scores = [True, True, False, False], [0.9, 0.4, 0.6, 0.1]
        >>> [choose_threshold(labels, scores, at_cost(*each)) for each in ((5, 1), (1, 5))]
        [0.75, 0.25]
    """
    return lambda cuts: -(false_positive * cuts.fp + false_negative * cuts.fn)


def choose_threshold(
    labels: ArrayLike, scores: ArrayLike, criterion: str | Criterion = "balanced_accuracy"
) -> float:
    """The threshold under which a criterion is largest on these scores, halfway between two of them.

    Of equally good ones the nearest to 0.5 is taken. Raises UsageError for an unknown criterion, where there
    is only one class, and where no threshold has what the criterion demands.

    Example:
        >>> choose_threshold([True, True, False, False], [0.9, 0.8, 0.3, 0.1])
        0.55
    """
    truth, values = as_arrays(labels, scores)
    if len(set(truth.tolist())) < 2:
        raise UsageError("a threshold can be chosen only on images of both classes")
    measured = CRITERIA[criterion] if isinstance(criterion, str) else criterion
    worth = np.asarray(measured(confusions(truth, values, np.ones(len(values)))))
    distinct = np.unique(values)[::-1]
    edges = np.concatenate([[1.0], distinct, [0.0]])
    places = (edges[:-1] + edges[1:]) / 2
    if distinct[0] == 1.0:
        worth[0] = -np.inf  # no threshold is above the highest score
    if np.nanmax(worth) == -np.inf:
        raise UsageError("no threshold is strict enough: too many images of the negative class score 1")
    best = np.flatnonzero(worth >= np.nanmax(worth) - 1e-12)
    return float(places[best[np.argmin(np.abs(places[best] - DEFAULT))]])


@dataclass(frozen=True)
class Proposal:
    """A threshold, and its rates on images that did not choose it.

    `groups` chose it and gave the rates; `note` says why a number is missing.
    """

    threshold: float | None
    false_positive_rate: Estimate
    recall: Estimate
    groups: tuple[int, int]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "groups": list(self.groups)}


def propose_threshold(
    labels: ArrayLike, scores: ArrayLike, codes: Codes, criterion: Criterion, seed: int = SEED
) -> Proposal:
    """The best threshold on half of the groups, drawn at random, and its rates on the other half.

    On the images that chose a threshold its rates are too good, and intervals of cross-fitted rates are too
    narrow where the best threshold is not sharp; on others both are right for this very threshold. `codes`
    (N,) number the groups; the intervals are over groups, see `rates.rate`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(400) % 2 == 0
        >>> scores = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.15, 400), 0, 1)
        >>> found = propose_threshold(labels, scores, np.arange(400), at_false_positive_rate(0.1))
        >>> round(found.threshold, 1), round(found.false_positive_rate.value, 1), found.groups
        (0.5, 0.1, (200, 200))
    """
    truth, values = as_arrays(labels, scores)
    chooses = _half(codes, seed)
    groups = (len(np.unique(codes[chooses])), len(np.unique(codes[~chooses])))
    try:
        threshold = choose_threshold(truth[chooses], values[chooses], criterion)
    except UsageError as error:
        return Proposal(None, Estimate(None), Estimate(None), groups, str(error))
    called = values >= threshold
    alarms, found = (rate(called, ~chooses & side, codes) for side in (~truth, truth))
    return Proposal(threshold, alarms, found, groups, _lacking((alarms, found)))


def _half(codes: Codes, seed: int) -> Mask:
    """Which images (N,) are of a random half of the groups."""
    known, numbers = np.unique(codes, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(known)) % 2 == 0)[numbers], bool)


def _lacking(rates: Sequence[Estimate]) -> str:
    if any(each.value is None for each in rates):
        return "the other half has one class"
    return (
        f"no interval: fewer than {LEAST_GROUPS} groups of a class"
        if None in {each.low for each in rates}
        else ""
    )
