"""The figure of an evaluation: ROC, precision and recall, calibration, and the scores themselves."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xface.evaluation.evaluation import Evaluation
from xface.report.colours import BLUE, VERMILION
from xface.results import FloatArray
from xface.statistics.bootstrap import Estimate, estimate
from xface.statistics.metrics import BINS, calibration_bins, confusion_rates, over
from xface.wording import drawable

POSITIVE, NEGATIVE, CHANCE = VERMILION, BLUE, "#666666"
HISTOGRAM_BINS = 20
THRESHOLD = {"marker": "o", "color": "black", "markersize": 10, "fillstyle": "none", "linestyle": ""}
LETTERS = 110  # in a line of the title


def draw_evaluation(evaluation: Evaluation) -> Figure:
    """Return a figure with the ROC curve, precision over recall, calibration and score histograms."""
    figure = Figure(figsize=(10.5, 9.2), layout="constrained")
    FigureCanvasAgg(figure)
    (roc, precision), (calibration, histogram) = figure.subplots(2, 2)
    labels, scores = _arrays(evaluation)
    if 0 < labels.sum() < len(labels):
        _draw_roc(roc, evaluation, labels, scores)
        _draw_precision(precision, evaluation, labels, scores)
    else:
        for cell, name in ((roc, "ROC"), (precision, "Precision and recall")):
            _undefined(cell, f"{name}: undefined with one class")
    _draw_calibration(calibration, evaluation, labels, scores)
    _draw_histogram(histogram, evaluation, labels, scores)
    _title(figure, evaluation)
    return figure


def _arrays(evaluation: Evaluation) -> tuple[NDArray[np.bool_], FloatArray]:
    scored = evaluation.scored
    return scored["positive"].to_numpy(bool), scored["score"].to_numpy(np.float64)


def _title(figure: Figure, evaluation: Evaluation) -> None:
    whole, threshold = evaluation.whole[0], evaluation.threshold
    lines = [
        f"{drawable(evaluation.data)}: {whole.count:,} images, "
        f"{whole.positives:,} of them {_positive(evaluation)}, {whole.groups:,} groups",
        f"threshold {threshold.value:.3g} ({drawable(threshold.source)})",
        f"in brackets, and as bars: 95 % intervals, {evaluation.resamples:,} bootstrap resamples of groups",
    ]
    title = "\n".join(textwrap.fill(line, LETTERS) for line in lines)
    figure.suptitle(title, fontsize=11, parse_math=False)


def _positive(evaluation: Evaluation) -> str:
    return drawable(evaluation.positive)


def _draw_roc(cell: Any, evaluation: Evaluation, labels: NDArray[np.bool_], scores: FloatArray) -> None:
    from sklearn.metrics import roc_curve

    metrics = evaluation.whole[0].metrics
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    cell.plot([0, 1], [0, 1], ":", color=CHANCE, label="chance")
    cell.plot(fpr, tpr, color=POSITIVE, label=f"AUC {_words(metrics['auc'])}")
    eer = metrics["eer"].value or 0.0
    cell.plot([eer], [1 - eer], "D", color=NEGATIVE, label=f"EER {_words(metrics['eer'])}")
    rates = confusion_rates(labels, scores, evaluation.threshold.value)
    cell.plot(*rates, **THRESHOLD, label="at the threshold")
    _dress(cell, "ROC", "false positive rate", "true positive rate", "lower right")


def _draw_precision(cell: Any, evaluation: Evaluation, labels: NDArray[np.bool_], scores: FloatArray) -> None:
    from sklearn.metrics import precision_recall_curve

    metrics, share = evaluation.whole[0].metrics, labels.mean()
    precision, recall, _ = precision_recall_curve(labels, scores)
    cell.axhline(share, linestyle=":", color=CHANCE, label=f"chance: {share:.3f} are {_positive(evaluation)}")
    cell.step(recall, precision, where="post", color=POSITIVE, label=f"AP {_words(metrics['ap'])}")
    if metrics["precision"].value is not None:
        at = (metrics["recall"].value, metrics["precision"].value)
        cell.plot([at[0]], [at[1]], **THRESHOLD, label="at the threshold")
    _dress(cell, "Precision and recall", "recall", "precision", "lower left")


def _draw_calibration(
    cell: Any, evaluation: Evaluation, labels: NDArray[np.bool_], scores: FloatArray
) -> None:
    bins = calibration_bins(scores)
    member = np.eye(BINS)[bins]
    found = estimate(
        lambda weights: over(weights @ (labels[:, None] * member), weights @ member).T,
        evaluation.scored["group"].to_numpy(),
        len(labels),
        evaluation.resamples,
        evaluation.seed,
    )
    cell.plot([0, 1], [0, 1], ":", color=CHANCE, label="calibrated")
    error = _words(evaluation.whole[0].metrics["ece"])
    cell.plot([], [], "o-", color=POSITIVE, label=f"calibration error {error}")
    full = [b for b in range(BINS) if (bins == b).any()]
    x, y = [scores[bins == b].mean() for b in full], [found[b].value for b in full]
    cell.plot(x, y, "o-", color=POSITIVE)
    for place, b in zip(x, full, strict=True):
        if found[b].low is not None:
            cell.plot([place] * 2, [found[b].low, found[b].high], color=POSITIVE, linewidth=1)
        cell.text(place, -0.07, f"{(bins == b).sum()}", fontsize=7, ha="center", color=CHANCE)
    positive = _positive(evaluation)
    _dress(
        cell, "Calibration", "mean score (below: number of images)", f"part that is {positive}", "upper left"
    )
    cell.set_ylim(-0.1, 1.02)


def _draw_histogram(cell: Any, evaluation: Evaluation, labels: NDArray[np.bool_], scores: FloatArray) -> None:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    positive = _positive(evaluation)
    for name, rows, colour, hatch in (
        (positive, labels, POSITIVE, "///"),
        (drawable(evaluation.negative), ~labels, NEGATIVE, "..."),
    ):
        if rows.any():
            cell.hist(scores[rows], edges, histtype="stepfilled", facecolor=(*_rgb(colour), 0.25),
                      edgecolor=colour, hatch=hatch, linewidth=1.3,
                      label=f"{name}: {rows.sum():,}")  # fmt: skip
    cell.axvline(evaluation.threshold.value, color="black", linestyle="--", label="threshold")
    _dress(cell, "Scores", f"score: probability of {positive}", "images", "upper left", columns=3)
    cell.set_ylim(0, 1.15 * cell.get_ylim()[1])  # room for the legend


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _words(found: Estimate) -> str:
    if found.value is None:
        return "undefined"
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.value:.3f}{interval}"


def _dress(cell: Any, title: str, x: str, y: str, where: str, columns: int = 1) -> None:
    cell.set_title(title, fontsize=11)
    cell.set_xlabel(x, parse_math=False)
    cell.set_ylabel(y, parse_math=False)
    cell.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02) if title != "Scores" else None)
    cell.grid(alpha=0.25)
    legend = cell.legend(loc=where, fontsize=8.5, framealpha=0.9, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _undefined(cell: Any, words: str) -> None:
    cell.text(0.5, 0.5, words, ha="center", va="center", transform=cell.transAxes, fontsize=11)
    cell.set(xticks=[], yticks=[])
