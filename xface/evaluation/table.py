"""Evaluations as text: every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from xface.evaluation.evaluation import Evaluation, Summary
from xface.statistics.bootstrap import Estimate
from xface.statistics.metrics import METRICS
from xface.wording import aligned, printable

CHIEF = ("auc", "eer", "balanced_accuracy")
"""What tables over several sets or values show; more would not fit a terminal."""

CELLS = (("tp", "fn"), ("fp", "tn"))
"""The confusion matrix: rows truth, columns verdict, positive first."""


def evaluation_table(evaluation: Evaluation) -> str:
    """The metrics of one set: per image and, where it has several images each, per video or group."""
    whole = evaluation.whole
    head = ["", *(_unit(summary) for summary in whole)]
    rows = [
        [metric.title, *(_cell(summary.metrics[name], metric.undefined) for summary in whole)]
        for name, metric in METRICS.items()
        if not metric.count
    ]
    return "\n".join([*_heading(evaluation), "", aligned([head, *rows]), "", confusion_table(evaluation)])


def confusion_table(evaluation: Evaluation) -> str:
    """The confusion matrix of the images, counts with intervals."""
    metrics, positive = evaluation.whole[0].metrics, printable(evaluation.positive)
    names = (positive, printable(evaluation.negative))
    head = ["images", *(f"called {name}" for name in names)]
    rows = [
        [f"are {name}", *(_count(metrics[cell]) for cell in cells)]
        for name, cells in zip(names, CELLS, strict=True)
    ]
    return aligned([head, *rows])


def parts_table(evaluation: Evaluation) -> str:
    """A row per value of the columns that were asked for; "" if none was."""
    rows = [[_value(part), *_chief(part)] for part in evaluation.parts]
    return aligned([[evaluation_name(evaluation), *_chief_head()], *rows]) if rows else ""


def sets_table(evaluations: Sequence[Evaluation]) -> str:
    """A row per test set: the cross-dataset table."""
    rows = [[evaluation_name(each), *_chief(each.whole[0])] for each in evaluations]
    return aligned([["test set", *_chief_head()], *rows])


def evaluation_name(evaluation: Evaluation) -> str:
    """The name of the data, safe to print."""
    return printable(evaluation.data)


def _heading(evaluation: Evaluation) -> list[str]:
    whole, threshold = evaluation.whole[0], evaluation.threshold
    positive = printable(evaluation.positive)
    failed = f", {len(evaluation.failed):,} more failed" if len(evaluation.failed) else ""
    return [
        f"{evaluation_name(evaluation)}: {whole.count:,} images ({whole.positives:,} {positive}) "
        f"in {whole.groups:,} groups{failed}",
        f"called {positive} from a probability of {threshold.value:.4g} on ({printable(threshold.source)})",
        f"in brackets: 95 % intervals, {evaluation.resamples:,} bootstrap resamples of groups",
    ]


def _unit(summary: Summary) -> str:
    pool = f", {summary.pool} score" if summary.pool else ""
    return f"per {summary.unit}{pool} ({summary.count:,})"


def _value(part: Summary) -> str:
    rest = " against all of the other class" if part.rest else ""
    return f"{part.column} {printable(part.value or '')}{rest}"


def _chief_head() -> list[str]:
    return ["images (positive)", *(METRICS[name].title for name in CHIEF)]


def _chief(summary: Summary) -> list[str]:
    cells = [_cell(summary.metrics[name], "") for name in CHIEF]
    return [f"{summary.count:,} ({summary.positives:,})", *cells]


def _cell(found: Estimate, reason: str) -> str:
    if found.value is None:
        return f"undefined: {reason}" if reason else "undefined"
    if found.low is None or found.high is None:
        return f"{found.value:.3f} (no interval)"
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def _count(found: Estimate) -> str:
    interval = "" if found.low is None else f" ({found.low:.0f}-{found.high:.0f})"
    return f"{found.value:,.0f}{interval}"
