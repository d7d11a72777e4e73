"""Thresholds: from which score on an image is called positive, and who said so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xface.errors import UsageError
from xface.registry import Registry
from xface.results import FloatArray
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

DEFAULT = 0.5


@dataclass(frozen=True)
class Threshold:
    """An image is called positive if its score is at least `value`; `source` says where that comes from."""

    value: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise UsageError(f"threshold {self.value} is not a probability between 0 and 1")

    def to_json(self) -> dict[str, Any]:
        """Return `value` and `source`."""
        return {"value": self.value, "source": self.source}


def stated_threshold(given: float | None, on_card: float | None) -> Threshold:
    """The threshold that was given, else the card's, else 0.5; UsageError if it is not a probability.

    Example:
        >>> stated_threshold(None, 0.3)
        Threshold(value=0.3, source="the card's")
    """
    if given is not None:
        return Threshold(given, "as given")
    return Threshold(DEFAULT, "default") if on_card is None else Threshold(on_card, "the card's")


CRITERIA = Registry[Callable[[Confusion], FloatArray]]("criterion")
"""By name, what a threshold makes as large as it can; of confusion matrices, one per threshold."""
CRITERIA.add("balanced_accuracy", balanced_accuracy)
CRITERIA.add("accuracy", accuracy)
CRITERIA.add("f1", f1)
CRITERIA.add("eer", lambda cuts: -np.abs(recall(cuts) - specificity(cuts)))


def choose_threshold(labels: ArrayLike, scores: ArrayLike, criterion: str = "balanced_accuracy") -> float:
    """The threshold under which a criterion is largest on these scores, halfway between two of them.

    Of equally good ones the nearest to 0.5 is taken. Raises UsageError for an unknown criterion, and where
    there is only one class.

    Example:
        >>> choose_threshold([True, True, False, False], [0.9, 0.8, 0.3, 0.1])
        0.55
    """
    truth, values = as_arrays(labels, scores)
    if len(set(truth.tolist())) < 2:
        raise UsageError("a threshold can be chosen only on images of both classes")
    worth = np.asarray(CRITERIA[criterion](confusions(truth, values, np.ones(len(values)))))
    distinct = np.unique(values)[::-1]
    edges = np.concatenate([[1.0], distinct, [0.0]])
    places = (edges[:-1] + edges[1:]) / 2
    if distinct[0] == 1.0:
        worth[0] = -np.inf  # no threshold is above the highest score
    best = np.flatnonzero(worth >= np.nanmax(worth) - 1e-12)
    return float(places[best[np.argmin(np.abs(places[best] - DEFAULT))]])
