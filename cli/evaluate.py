"""`xface evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xface.errors import UsageError

from .batch import print_json
from .cautions import say_cautions, say_notes
from .options import LABELS, SPLIT, Names, Registered, detector_options

if TYPE_CHECKING:
    from xface.data import Vocabulary
    from xface.detectors import Detector
    from xface.evaluation.evaluation import Evaluation
    from xface.evaluation.labelled_sets import LabelledSet
    from xface.evaluation.thresholds import Threshold

FORMATS = ("csv", "parquet")


@click.command(
    epilog="Example: xface evaluate --weights meso4 --split test --out results/meso4 faces/manifest.csv"
)
@detector_options
@LABELS
@SPLIT
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also report each value of this column; may be repeated.",
)
@click.option(
    "--threshold",
    type=float,
    help="Classify as fake at or above this probability (default: the card's threshold, or 0.5).",
)
@click.option("--validation", metavar="DATA", help="Choose the threshold on this data.")
@click.option(
    "--validation-split",
    metavar="NAME",
    help="Split of --validation to use (default: val, if the data has splits).",
)
@click.option("--criterion", type=Registered(Names("xface.statistics.thresholds", "CRITERIA")),
              default="balanced_accuracy", show_default=True,
              help="Criterion to optimise when choosing the threshold.")  # fmt: skip
@click.option("--out", type=Path, metavar="DIR", help="A folder for scores, JSON and a figure per set.")
@click.option("--format", "table_format", type=click.Choice(FORMATS), default="csv", show_default=True,
              help="File format of the table of scores.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object per set, a line each, on stdout.")
@click.argument("data", nargs=-1, required=True, metavar="DATA...")
def evaluate(
    data: tuple[str, ...],
    arch: str | None,
    weights: str | None,
    state_key: str | None,
    positive: str | None,
    device: str,
    face_detector: str,
    labels: dict[str, str],
    split: str | None,
    by: tuple[str, ...],
    threshold: float | None,
    validation: str | None,
    validation_split: str | None,
    criterion: str,
    out: Path | None,
    table_format: str,
    as_json: bool,
) -> None:
    """Measure a detector on labelled images: CSV files, folders with real/ and fake/, or manifests.

    Each number comes with a 95 % interval over groups; several sets make a table.
    """
    import xface
    from xface.evaluation.folder import save_evaluations
    from xface.evaluation.labelled_sets import read_sets
    from xface.evaluation.scoring import vocabulary
    from xface.files.writing import appearing

    _check_thresholds(threshold, validation, validation_split)
    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    say_cautions(detector)
    words = vocabulary(detector, labels)
    sets = read_sets(data, split, words)
    with appearing(out) if out else nullcontext() as folder:
        if validation:
            limit = _validated(detector, validation, validation_split, criterion, sets, words)
        else:
            limit = _stated(detector, threshold)
        found = [_evaluated(detector, each, limit, by) for each in sets]
        if folder:
            save_evaluations(found, detector.to_json(), folder, table_format)
    _print(found, detector, as_json)
    if out:
        click.echo(f"written to {out}", err=True)
    _fail_for_images(found)


def _check_thresholds(threshold: float | None, validation: str | None, validation_split: str | None) -> None:
    if threshold is not None and validation:
        raise UsageError("--threshold and --validation contradict each other; give one")
    if validation_split and not validation:
        raise UsageError("--validation-split needs --validation")


def _stated(detector: Detector, threshold: float | None) -> Threshold:
    from xface.evaluation.thresholds import stated_threshold

    return stated_threshold(threshold, detector.card.threshold)


def _validated(
    detector: Detector,
    source: str,
    split: str | None,
    criterion: str,
    sets: Sequence[LabelledSet],
    labels: Vocabulary,
) -> Threshold:
    from xface.evaluation.labelled_sets import check_apart, read_validation, validated_threshold

    chosen = read_validation(source, split, labels)
    say_notes(chosen.samples.notes)
    check_apart(chosen, sets)
    with _progress(f"validation {chosen.name}", len(chosen.samples)) as advance:
        return validated_threshold(detector, chosen, criterion, advance)


def _evaluated(detector: Detector, each: LabelledSet, limit: Threshold, by: Sequence[str]) -> Evaluation:
    from xface.evaluation.labelled_sets import evaluate_set

    with _progress(each.name, len(each.samples)) as advance:
        return evaluate_set(detector, each, limit, by, advance)


@contextmanager
def _progress(label: str, count: int) -> Iterator[Callable[[int], object]]:
    from xface.wording import printable

    hidden = not sys.stderr.isatty()
    with click.progressbar(length=count, label=printable(label), file=sys.stderr, hidden=hidden) as bar:
        yield bar.update


def _print(found: Sequence[Evaluation], detector: Detector, as_json: bool) -> None:
    from xface.evaluation.table import evaluation_table, parts_table, sets_table

    for each in found:
        if as_json:
            print_json({**each.to_json(), "detector": detector.to_json()})
            continue
        tables = [evaluation_table(each), parts_table(each)]
        click.echo("\n\n".join(filter(None, tables)) + "\n")
        say_notes(each.cautions)
    if len(found) > 1 and not as_json:
        click.echo(sets_table(found))
    if not as_json:
        click.echo(f"detector: {detector.arch.name}, card {detector.card.source}", err=True)


def _fail_for_images(found: Sequence[Evaluation]) -> None:
    reasons = [reason for each in found for reason in each.failed["reason"]]
    for reason in reasons:
        click.echo(f"xface: {reason}", err=True)
    if reasons:
        total = sum(len(each.table) for each in found)
        click.echo(f"xface: {len(reasons)} of {total} images failed, the others are evaluated", err=True)
        sys.exit(1)
