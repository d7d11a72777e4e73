"""Labelled sets: data as the user named it, evaluated one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from xface.data import DataError, Samples, Vocabulary, read_samples
from xface.detectors.detector import Detector
from xface.errors import UsageError
from xface.evaluation.evaluation import OWN, Evaluation, check_columns, evaluate
from xface.evaluation.scoring import score, vocabulary
from xface.evaluation.thresholds import Threshold
from xface.files.paths import absolute, as_utf8, identity
from xface.statistics.thresholds import choose_threshold
from xface.wording import UNTRAINED_RUN

MANIFEST = "manifest"
VALIDATION = "val"

Progress: TypeAlias = Callable[[int], object]


@dataclass(frozen=True)
class LabelledSet:
    """Samples and what they are called in tables."""

    name: str
    samples: Samples


def read_sets(
    sources: Sequence[str], split: str | None = None, labels: Vocabulary | None = None
) -> list[LabelledSet]:
    """Read each source, only the rows of `split` if one is named, with the labels as these say.

    Raises DataError.

    A set bears the name of its folder or CSV file, or the whole path where two would bear the same.
    """
    names = [_short_name(Path(source)) for source in sources]
    often = Counter(names)
    return [
        LabelledSet(name if often[name] == 1 else as_utf8(source), _read(source, split, labels))
        for name, source in zip(names, sources, strict=True)
    ]


def read_validation(source: str, split: str | None = None, labels: Vocabulary | None = None) -> LabelledSet:
    """Read a validation set: its rows of `split`, by default of `val` if it names splits, else all.

    Raises DataError.
    """
    samples, name = read_samples(source, labels=labels), _short_name(Path(source))
    if split is None and any(samples.column("split")):
        split = VALIDATION
    if split is None:
        return LabelledSet(name, samples)
    return LabelledSet(f"{name}, split {split}", _of_split(samples, split))


def validated_threshold(
    detector: Detector, each: LabelledSet, criterion: str, progress: Progress
) -> Threshold:
    """The threshold that is best by a criterion on a validation set.

    Raises:
        UsageError: it has one class. DataError: labels are none of the detector's classes.
    """
    words = vocabulary(detector)
    table = score(detector, each.samples.read_as(words).table, progress)
    scored = table[table["reason"] == ""]
    truth = scored["label"] == words.positive_label
    value = choose_threshold(truth.to_numpy(), scored["score"].to_numpy(), criterion)
    return Threshold(value, f"best by {criterion} on {each.name}, {len(scored)} images")


def evaluate_set(
    detector: Detector, each: LabelledSet, threshold: Threshold, by: Sequence[str], progress: Progress
) -> Evaluation:
    """Score one test set and sum it up; raises as `evaluate` does, for columns and labels before scoring."""
    check_columns(each.samples.table, by)
    words = vocabulary(detector)
    given, notes = _without_results(each.samples.read_as(words))
    table = score(detector, given, progress)
    cautions = notes if detector.trained else (UNTRAINED_RUN, *notes)
    return evaluate(
        table, each.name, threshold, words.positive_label, by, notes=cautions, classes=words.classes
    )


def _without_results(samples: Samples) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table without columns that bear a result's name, such as those of an earlier evaluation."""
    old = [name for name in samples.table if name in OWN]
    note = f"columns of the data that are named as results are left out: {', '.join(old)}"
    return samples.table.drop(columns=old), (*samples.notes, *([note] if old else []))


def check_apart(validation: LabelledSet, sets: Sequence[LabelledSet]) -> None:
    """Raise UsageError if an image on which the threshold was chosen is in a test set."""
    chosen = set(map(identity, validation.samples.paths))
    for each in sets:
        if shared := [path for path in each.samples.paths if identity(path) in chosen]:
            raise UsageError(
                f"{len(shared)} images of {each.name}, such as {min(shared)!r}, are those on which the "
                "threshold was to be chosen; which would flatter; name other data, or a split with --split"
            )


def _read(source: str, split: str | None, labels: Vocabulary | None) -> Samples:
    samples = read_samples(source, labels=labels)
    return samples if split is None else _of_split(samples, split)


def _of_split(samples: Samples, split: str) -> Samples:
    return Samples(samples.of_split(split).table, samples.notes)


def _short_name(source: Path) -> str:
    place = absolute(source, DataError)
    return as_utf8(place.parent.name if source.stem == MANIFEST else place.stem)
