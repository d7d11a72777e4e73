"""What the gallery knows of every image, and which images it shows where not all fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xface.report.run.nearest import nearest_correct
from xface.report.run.page_data import plain
from xface.results import WRONG, FloatArray
from xface.runs.folder import RunFolder

IndexArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a run that a page shows, by their index in the run's table, in its order."""

    run: RunFolder
    shown: IndexArray

    def columns(self) -> Iterator[tuple[str, Any]]:
        """Names and plain lists, one entry per image shown."""
        run = self.run
        yield "row", run.rows[self.shown].tolist()
        for name in ("image", "label", "group", "called", "outcome", "status", "reason"):
            yield name, self._pick(run.texts(name))
        yield "score", plain(run.numbers("score")[self.shown], None)  # exact: the page judges as the run did
        yield "nearest", self._nearest()
        yield "attributes", {name: plain(run.numbers(name)[self.shown]) for name in run.attributes}
        yield "extras", {name: self._pick(run.texts(name)) for name in run.extras}

    def lifts(self, kind: int) -> Iterator[tuple[str, list[float | None]]]:
        """Each region with its lifts in the maps of one kind."""
        table = self.run.regions
        for number, name in enumerate(table.regions):
            yield name, plain(table.lift[self.shown, kind, number])

    def rest(self) -> dict[str, Any]:
        """Truth (1 for the positive class) and score of the images not shown, for the counts."""
        hidden = np.setdiff1d(np.arange(len(self.run.rows)), self.shown)
        scores = self.run.numbers("score")[hidden]
        truth = np.array(self.run.texts("label"), object)[hidden] == self.run.manifest["positive"]
        judged = np.isfinite(scores)
        return {"positive": truth[judged].astype(int).tolist(), "score": plain(scores[judged], None)}

    def _pick(self, column: list[str]) -> list[str]:
        return [column[i] for i in self.shown]

    def _nearest(self) -> list[int | None]:
        found, rows = nearest_correct(self.run)[self.shown], self.run.rows
        return [int(rows[i]) if i >= 0 else None for i in found]


def confidence(scores: FloatArray, threshold: float) -> FloatArray:
    """How far scores (N,) lie from the threshold: 0 at it, 1 at the end of the scale.

    Example:
        >>> confidence(np.array([0.0, 0.125, 0.25, 0.625, 1.0]), 0.25).tolist()
        [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    room = np.where(scores >= threshold, 1 - threshold, threshold)
    return np.asarray(np.abs(scores - threshold) / np.where(room > 0, room, 1))


def most_confident_errors(run: RunFolder, count: int) -> IndexArray:
    """The indices of `count` images, in the table's order: confident errors, then other images likewise."""
    wrong = np.isin(run.texts("outcome"), WRONG)
    sure = np.nan_to_num(confidence(run.numbers("score"), run.threshold), nan=-1.0)
    return np.sort(np.lexsort((-sure, ~wrong))[:count])


def rows_under(run: RunFolder, conditions: Sequence[Mapping[str, Any]]) -> list[int]:
    """The rows of the images whose attributes lie above each condition's `low` and not above its `high`."""
    inside = np.ones(len(run.rows), bool)
    for each in conditions:
        values = run.numbers(each["attribute"])
        low, high = (math.nan if each[end] is None else each[end] for end in ("low", "high"))
        inside &= np.isfinite(values) & ~(values <= low) & ~(values > high)
    return [int(row) for row in run.rows[inside]]
