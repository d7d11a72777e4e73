"""Evaluation: a table of scored images summed up, whole, per video and by a column's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xface.data.groups import groups
from xface.data.labels import CLASSES, Vocabulary
from xface.errors import UnknownNameError, UsageError
from xface.evaluation.thresholds import Threshold
from xface.results import outcome_of
from xface.statistics.bootstrap import LEAST_GROUPS, LEVEL, RESAMPLES, SEED, Estimate, group_codes
from xface.statistics.metrics import measure
from xface.wording import counted, negative_name

if TYPE_CHECKING:
    import pandas as pd

POOLS = ("mean", "max")
OWN = frozenset({"score", "reason", "called", "outcome", "positive", "uncropped"})


@dataclass(frozen=True)
class Summary:
    """The metrics of one set of scores.

    `unit` is what has a score: an image, or a video or group with the mean or maximum (`pool`) of its images'
    scores. `column` and `value` say which images were picked; `rest` that all images of the other class
    were added to them.
    """

    unit: str
    count: int
    positives: int
    groups: int
    metrics: Mapping[str, Estimate]
    pool: str | None = None
    column: str | None = None
    value: str | None = None
    rest: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "metrics"}
        return {**named, "metrics": {name: found.to_json() for name, found in self.metrics.items()}}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a detector's scores on one set of images are worth.

    `table` has a row per image: the columns it came with, `score`, `positive` (the truth), `called` and
    `outcome` (TP, FN, FP, TN), both "" for a failed image, and `reason` (why it failed, else ""); for a
    detector that crops `uncropped` too (why an image was taken whole, else ""). `whole` is the summary
    of all images, then those of videos or groups where they have several; `parts`, by column.
    """

    data: str
    positive: str
    threshold: Threshold
    table: pd.DataFrame
    whole: tuple[Summary, ...]
    parts: tuple[Summary, ...]
    resamples: int
    seed: int
    cautions: tuple[str, ...]

    @property
    def negative(self) -> str:
        """The label of the images that are not positive; `not fake` if there are several labels, or none."""
        return negative_name(self.positive, self.table["label"])

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of the images that have no score."""
        return self.table[self.table["reason"] != ""]

    @property
    def scored(self) -> pd.DataFrame:
        """The rows of the images that have one."""
        return self.table[self.table["reason"] == ""]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the scores are in the table."""
        return {
            "data": self.data,
            "positive": self.positive,
            "threshold": self.threshold.to_json(),
            "bootstrap": {"level": LEVEL, "resamples": self.resamples, "seed": self.seed, "over": "groups"},
            "whole": [summary.to_json() for summary in self.whole],
            "parts": [summary.to_json() for summary in self.parts],
            "failed": self.failed[["path", "label", "reason"]].to_dict("records"),
            "cautions": list(self.cautions),
        }


def evaluate(
    table: pd.DataFrame,
    data: str,
    threshold: Threshold,
    positive: str = "fake",
    by: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = SEED,
    notes: Sequence[str] = (),
    classes: Sequence[str] = CLASSES,
) -> Evaluation:
    """Sum up scored images: columns path, label, score, reason, perhaps group, pair, video and split.

    Rows whose label is `positive` are the positives, those of the other `classes` the negatives. Intervals
    resample groups, as `xface.data.groups` finds them; an image without one is its own. A video is one of the
    column `video`, or else the images of one label in a group that the table names. For each column in `by`
    its values are summed up one by one; those that all images of one class bear are measured against all
    images of the other, as forgeries of one kind usually are against all real faces. `notes` are put before
    the evaluation's own cautions.

    Raises:
        UsageError: no image has a score, or (UnknownNameError) there is no such column or positive class.
        DataError: labels are none of the classes.
    """
    check_columns(table, by)
    if positive not in classes:
        raise UnknownNameError("class", positive, classes)
    labels, said = Vocabulary(tuple(classes)).read(list(table["label"]), data)
    own = _texts(table, "group")
    grouped = groups(_texts(table, "path"), own, _texts(table, "pair"))
    judged = _judged(table.assign(label=labels, group=grouped), threshold, positive)
    scored = judged[judged["reason"] == ""]
    if scored.empty:
        raise UsageError(f"{data}: no image has a score; {_why(judged)}")

    def summary(rows: pd.DataFrame, unit: str = "image", **which: Any) -> Summary:
        names = rows["group"].to_numpy()
        metrics = measure(
            rows["positive"], rows["score"], threshold.value, names, resamples=resamples, seed=seed
        )
        number = int(group_codes(names, len(rows)).max()) + 1
        return Summary(unit, len(rows), int(rows["positive"].sum()), number, metrics, **which)

    whole = [summary(scored)]
    whole += [summary(rows, unit, pool=pool) for unit, pool, rows in _pooled(scored, own)]
    parts = [
        summary(rows, column=column, value=value, rest=rest)
        for column in by
        for value, rest, rows in _picked(scored, column)
    ]
    cautions = (*notes, *said, *_cautions(judged, whole[0]))
    return Evaluation(
        data, positive, threshold, judged, tuple(whole), tuple(parts), resamples, seed, cautions
    )


def check_columns(table: pd.DataFrame, by: Sequence[str]) -> None:
    """Raise UnknownNameError for a name in `by` that is no column of the data."""
    for column in by:
        if column not in table or column in OWN:
            raise UnknownNameError("column", column, [str(name) for name in table if name not in OWN])


def _judged(table: pd.DataFrame, threshold: Threshold, positive: str) -> pd.DataFrame:
    truth = (table["label"] == positive).to_numpy()
    called = (table["score"] >= threshold.value).to_numpy()
    scored = (table["reason"] == "").to_numpy()
    outcomes = [
        outcome_of(bool(t), bool(c)) if s else "" for t, c, s in zip(truth, called, scored, strict=True)
    ]
    other = negative_name(positive, table["label"])
    calls = [(positive if c else other) if s else "" for c, s in zip(called, scored, strict=True)]
    return table.reset_index(drop=True).assign(positive=truth, called=calls, outcome=outcomes)


def _why(judged: pd.DataFrame) -> str:
    return f"the first reason: {judged['reason'].iloc[0]}" if len(judged) else "there is no image"


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return [""] * len(table)
    return [str(value) for value in table[column].fillna("")]  # pandas' own text is UTF-8 alone


def _pooled(scored: pd.DataFrame, own: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(unit, pool, rows): a row per video, or per `own` group and label, if any has several images."""
    unit = "video" if "video" in scored else "group"
    names = _texts(scored, "video") if unit == "video" else [own[row] for row in scored.index]
    videos = scored.assign(unit=group_codes(names, len(scored))).groupby(["unit", "positive"], as_index=False)
    if videos.ngroups == len(scored):
        return
    for pool in POOLS:
        yield unit, pool, videos.agg(group=("group", "first"), score=("score", pool))


def _picked(scored: pd.DataFrame, column: str) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """(value, whether the other class was added, rows) for each value of a column."""
    values = _texts(scored, column)
    for value in sorted(set(values) - {""}):
        rows = scored[[each == value for each in values]]
        rest = scored[scored["positive"] != rows["positive"].iloc[0]]
        alone = rows["positive"].nunique() == 1 and not rest.empty
        yield value, alone, scored.loc[rows.index.union(rest.index)] if alone else rows


def _cautions(judged: pd.DataFrame, whole: Summary) -> Iterator[str]:
    splits = sorted(set(_texts(judged, "split")) - {""})
    if len(splits) > 1:
        yield f"images of several splits ({', '.join(splits)}) are evaluated together; pick one with --split"
    if not (judged["group"] != "").any():
        yield "no groups are named: if frames of one video are among the images, the intervals are too narrow"
    if whole.groups < LEAST_GROUPS:
        yield f"no intervals: only {counted(whole.groups, 'group')}, fewer than {LEAST_GROUPS}"
    if whole.positives in (0, whole.count):
        yield "only one class has scores: what compares the classes is undefined"
    failed = judged["reason"] != ""
    if failed.any():
        yield f"images without a score are left out: {_by_label(judged, failed)}"
    if "uncropped" in judged and (uncropped := judged["uncropped"] != "").any():
        yield f"images used uncropped, as no face was found: {_by_label(judged, uncropped)}"


def _by_label(judged: pd.DataFrame, which: pd.Series[bool]) -> str:
    """How many images of each label are so."""
    each = (
        f"{which[judged['label'] == label].sum()} of {(judged['label'] == label).sum()} {label}"
        for label in sorted(set(judged["label"]))
    )
    return ", ".join(each)
