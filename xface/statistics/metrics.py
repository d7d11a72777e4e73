"""Metrics of a detector: pure functions of labels, scores and weights.

scikit-learn has most of them for one weighting at a time. A bootstrap asks for thousands, so here the weights
are a matrix, one row per resample, and the scores are sorted once; the tests hold each against scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xface.errors import UsageError
from xface.registry import Registry
from xface.results import FloatArray
from xface.statistics.bootstrap import RESAMPLES, SEED, Estimate, estimate

BINS = 10


@dataclass(frozen=True)
class Confusion:
    """Weights of true and false positives and negatives; arrays of any one shape."""

    tp: FloatArray
    fp: FloatArray
    fn: FloatArray
    tn: FloatArray


def over(part: FloatArray, whole: FloatArray) -> FloatArray:
    """part / whole (of any shape), NaN where the whole is 0: undefined is not 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole != 0))


def accuracy(c: Confusion) -> FloatArray:
    """(TP + TN) / (TP + FP + FN + TN)."""
    return over(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def recall(c: Confusion) -> FloatArray:
    """TP / (TP + FN); undefined without a positive."""
    return over(c.tp, c.tp + c.fn)


def specificity(c: Confusion) -> FloatArray:
    """TN / (TN + FP); undefined without a negative."""
    return over(c.tn, c.tn + c.fp)


def balanced_accuracy(c: Confusion) -> FloatArray:
    """The mean of recall and specificity; undefined with one class."""
    return (recall(c) + specificity(c)) / 2


def precision(c: Confusion) -> FloatArray:
    """TP / (TP + FP); undefined if nothing is called positive."""
    return over(c.tp, c.tp + c.fp)


def f1(c: Confusion) -> FloatArray:
    """2 TP / (2 TP + FP + FN); undefined if nothing is, or is called, positive."""
    return over(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def auc(cuts: Confusion) -> FloatArray:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half."""
    steps = np.diff(cuts.fp) * (cuts.tp[..., 1:] + cuts.tp[..., :-1]) / 2
    return over(steps.sum(axis=-1), cuts.tp[..., -1] * cuts.fp[..., -1])


def average_precision(cuts: Confusion) -> FloatArray:
    """Sum over thresholds of (gain in recall) x precision, not interpolated; undefined with one class."""
    calls = cuts.tp + cuts.fp
    steps = np.diff(cuts.tp) * np.divide(cuts.tp, calls, out=np.zeros_like(calls), where=calls > 0)[..., 1:]
    total = over(steps.sum(axis=-1), cuts.tp[..., -1])
    return np.where(cuts.fp[..., -1] > 0, total, np.nan)


def equal_error_rate(cuts: Confusion) -> FloatArray:
    """Where the ROC curve, straight between its points, has FPR = 1 - TPR; undefined with one class."""
    fpr = over(cuts.fp, cuts.fp[..., -1:])
    gap = fpr + over(cuts.tp, cuts.tp[..., -1:]) - 1  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=-1)[..., None]
    (x0, x1), (g0, g1) = (
        [np.take_along_axis(row, after - back, axis=-1)[..., 0] for back in (1, 0)] for row in (fpr, gap)
    )
    return x0 + over(-g0, g1 - g0) * (x1 - x0)


def brier(labels: NDArray[np.bool_], scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of (score - label)^2 over images (N,), by rows of weights (B, N) (Brier 1950)."""
    return over(weights @ (scores - labels) ** 2, weights.sum(axis=-1))


def calibration_bins(scores: FloatArray) -> NDArray[np.intp]:
    """The bin of each score (N,): [0, 0.1], (0.1, 0.2], ..., (0.9, 1], numbered from 0.

    Example:
        >>> calibration_bins(np.array([0.0, 0.1, 0.11, 1.0]))
        array([0, 0, 1, 9])
    """
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores)


def calibration_error(labels: NDArray[np.bool_], scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum over ten bins of (part of images) x |mean score - part of positives|, (B,) (Naeini et al. 2015)."""
    member = np.eye(BINS)[calibration_bins(scores)]
    return over(np.abs(weights @ ((scores - labels)[:, None] * member)).sum(axis=-1), weights.sum(axis=-1))


@dataclass(frozen=True)
class Weighted:
    """Labels (N,) and scores (N,) under weights (B, N), with what several metrics are made from.

    A row is called positive if its score is at least `threshold`.
    """

    labels: NDArray[np.bool_]
    scores: FloatArray
    threshold: float
    weights: FloatArray

    @cached_property
    def confusion(self) -> Confusion:
        """At the threshold, each (B,)."""
        called = self.scores >= self.threshold
        cells = (self.labels & called, ~self.labels & called, self.labels & ~called, ~self.labels & ~called)
        return Confusion(*(self.weights @ cell for cell in cells))

    @cached_property
    def cuts(self) -> Confusion:
        """At all thresholds, from above the highest score down to the lowest, each (B, 1 + distinct)."""
        return confusions(self.labels, self.scores, self.weights)


def confusions(labels: NDArray[np.bool_], scores: FloatArray, weights: FloatArray) -> Confusion:
    """Confusion matrices at each distinct score of (N,), highest first, after one with nothing positive."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, len(scores) > 0))
    ordered, truth = weights[..., order], labels[order]

    def called(among: NDArray[np.bool_]) -> FloatArray:
        summed = np.cumsum(ordered * among, axis=-1)[..., last]
        return np.concatenate([np.zeros((*summed.shape[:-1], 1)), summed], axis=-1)

    tp, fp = called(truth), called(~truth)
    return Confusion(tp, fp, tp[..., -1:] - tp, fp[..., -1:] - fp)


def confusion_rates(
    labels: NDArray[np.bool_], scores: FloatArray, threshold: float
) -> tuple[FloatArray, FloatArray]:
    """(false positive rate, true positive rate) at a threshold, each of shape (1,)."""
    cells = Weighted(labels, scores, threshold, np.ones((1, len(labels)))).confusion
    return 1 - specificity(cells), recall(cells)


@dataclass(frozen=True)
class Metric:
    """One metric: its title, when it is undefined, and how it comes from weighted scores.

    `reverse` asks for the basic bootstrap interval; `count` marks a number of images.
    """

    title: str
    undefined: str
    of: Callable[[Weighted], FloatArray]
    reverse: bool = False
    count: bool = False


METRICS = Registry[Metric]("metric")
_NOTHING, _ONE_CLASS = "no images", "one class only"
for _name, _metric in {
    "auc": Metric("AUC", _ONE_CLASS, lambda w: auc(w.cuts)),
    "ap": Metric("average precision", _ONE_CLASS, lambda w: average_precision(w.cuts)),
    "eer": Metric("equal error rate", _ONE_CLASS, lambda w: equal_error_rate(w.cuts)),
    "accuracy": Metric("accuracy", _NOTHING, lambda w: accuracy(w.confusion)),
    "balanced_accuracy": Metric("balanced accuracy", _ONE_CLASS, lambda w: balanced_accuracy(w.confusion)),
    "precision": Metric("precision", "no positive call", lambda w: precision(w.confusion)),
    "recall": Metric("recall", "no positive", lambda w: recall(w.confusion)),
    "f1": Metric("F1", "no positive, called or true", lambda w: f1(w.confusion)),
    "brier": Metric("Brier score", _NOTHING, lambda w: brier(w.labels, w.scores, w.weights)),
    "ece": Metric(
        "calibration error",
        _NOTHING,
        lambda w: calibration_error(w.labels, w.scores, w.weights),
        reverse=True,
    ),
    "tp": Metric("true positives", _NOTHING, lambda w: w.confusion.tp, count=True),
    "fn": Metric("false negatives", _NOTHING, lambda w: w.confusion.fn, count=True),
    "fp": Metric("false positives", _NOTHING, lambda w: w.confusion.fp, count=True),
    "tn": Metric("true negatives", _NOTHING, lambda w: w.confusion.tn, count=True),
}.items():
    METRICS.add(_name, _metric)


def measure(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float = 0.5,
    groups: Sequence[str] | NDArray[Any] | None = None,
    metrics: Iterable[str] = METRICS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """Each metric with its 95 % bootstrap interval over `groups`.

    `labels` (N,) are true for the positive class, `scores` (N,) its probabilities, `groups` (N,) name what
    belongs together ("": nothing else). Raises UsageError for arrays of different lengths, for scores outside
    0 to 1, and for unknown metrics.

    Example:
        >>> labels, scores = [True, True, False, False], [0.9, 0.4, 0.6, 0.1]
        >>> found = measure(labels, scores, metrics=["auc", "accuracy"])
        >>> found["auc"].value, found["accuracy"].value
        (0.75, 0.5)
        >>> measure([True, True], [0.9, 0.4], metrics=["auc"])["auc"].value is None
        True
    """
    truth, values = as_arrays(labels, scores)
    if groups is not None and len(groups) != len(truth):
        raise UsageError(f"{len(groups)} groups for {len(truth)} labels; give one for each")
    chosen = {name: METRICS[name] for name in metrics}

    def statistic(weights: FloatArray) -> FloatArray:
        weighted = Weighted(truth, values, threshold, weights)
        return np.stack([metric.of(weighted) for metric in chosen.values()])

    reverse = [metric.reverse for metric in chosen.values()]
    estimates = estimate(statistic, groups, len(truth), resamples, seed, reverse)
    return dict(zip(chosen, map(_within_range, estimates, chosen.values()), strict=True))


def as_arrays(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    """Labels and scores as arrays of one length; raises UsageError for others."""
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise UsageError(f"labels {truth.shape} and scores {values.shape} are not two rows of one length")
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError("scores must be probabilities, from 0 to 1")
    return truth, values


def _within_range(found: Estimate, metric: Metric) -> Estimate:
    if found.low is None or found.high is None or metric.count:
        return found
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))
