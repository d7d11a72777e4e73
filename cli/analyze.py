"""`xface analyze`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xface.errors import UsageError

from .cautions import say_cautions, say_notes
from .options import DATA, LABELS, RESUME, SPLIT, detector_options

if TYPE_CHECKING:
    from xface.analysis.plan import EffectsLimit, Plan

EFFECTS = "15"


def _effects_limit(context: click.Context, option: click.Parameter, value: str) -> int | str | None:
    """How many images of each outcome, `all`, or None for `none`."""
    if value in ("all", "none"):
        return None if value == "none" else value
    return int(click.IntRange(1)(value, option, context))


def cost_pairs(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> tuple[dict[str, float], ...]:
    """FP:FN as costs of both errors."""
    return tuple(map(_cost_pair, texts))


def _cost_pair(text: str) -> dict[str, float]:
    one, _, other = text.partition(":")
    try:
        return {"false_positive": float(one), "false_negative": float(other)}
    except ValueError:
        raise UsageError(f"--cost {text!r} must have the form FP:FN, such as 5:1") from None


@click.command(
    epilog="Example: xface analyze --weights meso4 --data faces/manifest.csv --split test --out run"
)
@detector_options
@DATA
@LABELS
@SPLIT
@click.option("--limit", type=int, metavar="N", help="Use only N images of each class, drawn at random.")
@click.option("--group-by", metavar="COLUMN", help="Column that groups dependent images (default: group).")
@click.option("--method", "methods", multiple=True, metavar="NAME",
              help="A method of `xface methods`; may be repeated (default: the best by xface trust, else "
              "gradcam).")  # fmt: skip
@click.option("--layer", "layers", multiple=True, metavar="NAME",
              help="A layer, or `all` stages; may be repeated (default: the best by xface trust, else the "
              "recommended one).")  # fmt: skip
@click.option(
    "--threshold",
    type=float,
    help="Classify as fake at or above this probability (default: the card's threshold, or 0.5).",
)
@click.option("--by", multiple=True, metavar="COLUMN",
              help="Break errors down by this column of the data; may be repeated.")  # fmt: skip
@click.option("--at-fpr", "rates", type=float, multiple=True, metavar="RATE",
              help="Propose a threshold for this false positive rate; may be repeated.")  # fmt: skip
@click.option("--cost", "costs", multiple=True, metavar="FP:FN", callback=cost_pairs,
              help="Propose a threshold for costs of errors, such as 5:1; may be repeated.")  # fmt: skip
@click.option("--out", type=Path, metavar="DIR", default=Path("results/analysis"), show_default=True,
              help="A new folder for the run.")  # fmt: skip
@click.option("--effects", callback=_effects_limit, default=EFFECTS, show_default=True, metavar="N|all|none",
              help="Of how many images of each outcome the parts of the face are hidden; each costs as much "
              "as the maps of some 45.")  # fmt: skip
@click.option("--maps", is_flag=True, help="Also write the raw maps.")
@click.option("--workers", type=click.IntRange(0), metavar="N",
              help="Processes that read pictures (default: one fewer than the CPU cores).")  # fmt: skip
@RESUME
def analyze(
    arch: str | None,
    weights: str | None,
    state_key: str | None,
    positive: str | None,
    device: str,
    face_detector: str,
    data: str,
    labels: dict[str, str],
    split: str | None,
    limit: int | None,
    group_by: str | None,
    methods: tuple[str, ...],
    layers: tuple[str, ...],
    threshold: float | None,
    by: tuple[str, ...],
    rates: tuple[float, ...],
    costs: tuple[dict[str, float], ...],
    out: Path,
    effects: EffectsLimit,
    maps: bool,
    workers: int | None,
    resume: bool,
) -> None:
    """Find out where a detector fails on labelled images, and what it was looking at."""
    import xface
    from xface.analysis.labelled_data import read_data
    from xface.analysis.plan import plan_analysis
    from xface.evaluation.scoring import vocabulary

    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    say_cautions(detector)
    read = read_data(data, split, limit, group_by, vocabulary(detector, labels))
    say_notes(read.samples.notes)
    wishes = [*({"false_positive_rate": rate} for rate in rates), *costs]
    plan = plan_analysis(
        detector, read, methods or None, layers or None, threshold, maps, by, wishes, effects
    )
    say_notes(plan.detector.notes[len(detector.notes) :])
    _say_trust(plan)
    run = _run(plan, out, workers, resume)
    _say_new_notes(run, plan)
    _say_what_was_found(run)
    _say_what_was_hidden(run)
    _say_what_failed(run)


def _say_trust(plan: Plan) -> None:
    """Say what each map earned, and what was chosen by it; or that nobody knows."""
    from xface.detectors.choosing import caution
    from xface.wording import method_at

    lines = [f"{method_at(each.method, each.layer)}: {each.words}" for each in plan.trust]
    unknown = caution(plan.detector)
    say_notes(tuple(filter(None, (*lines, plan.choice, unknown and f"maps are {unknown}"))))


def _run(plan: Plan, out: Path, workers: int | None, resume: bool) -> Path:
    from xface.analysis.pipeline import analyze as run_analysis
    from xface.errors import InterruptedRunError

    try:
        return run_analysis(
            plan, out, workers=workers, resume=resume, command=["xface", *sys.argv[1:]], progress=_progress
        )
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped; the same command with --resume resumes it") from None


@contextmanager
def _progress(count: int, what: str) -> Iterator[Callable[[int], object]]:
    """A bar with the remaining time and the images per second so far."""
    start, done = time.perf_counter(), 0
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=count, label=what, file=sys.stderr, hidden=hidden, item_show_func=lambda rate: rate
    ) as bar:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.update(more, f"{done / (time.perf_counter() - start):.1f} images/s")

        yield advance


def _say_new_notes(run: Path, plan: Plan) -> None:
    """Print what was said of the maps of real images, and was not of the plan's."""
    detector = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["detector"]
    say_notes(tuple(note for note in detector.get("notes", []) if note not in plan.detector.notes))


def _say_what_was_found(run: Path) -> None:
    """Print cautions and the findings that stand against all; where there are none, what was looked for."""
    from xface.report.run.breakdown_table import breakdown_table
    from xface.wording import counted, printable

    findings = json.loads((run / "findings.json").read_text(encoding="utf-8"))
    sentences = findings["sentences"]
    cautions = [each["text"] for each in sentences if each["about"] == "caution"]
    top = [each["text"] for each in sentences if each.get("top")]
    silent = [each["text"] for each in sentences if each["about"] in ("none", "count")]
    click.echo("\n".join(map(printable, [*cautions, *(top or silent)])))
    if more := len(sentences) - len(cautions) - len(top) - len(silent):
        click.echo(f"and {counted(more, 'finding')} of single tables in the report")
    for breakdown in findings.get("breakdowns", ()):
        click.echo(f"\n{breakdown_table(breakdown)}\n")
    for each in findings.get("proposals", ()):
        click.echo(printable(each["text"]))


def _say_what_was_hidden(run: Path) -> None:
    """Print of how many images of each outcome the parts of the face were hidden, unless of none."""
    hidden = json.loads((run / "manifest.json").read_text(encoding="utf-8")).get("effects")
    if hidden and (some := {name: counts for name, counts in hidden["images"].items() if counts[1]}):
        counts = ", ".join(f"{chosen:,} of {count:,} {name}" for name, (chosen, count) in some.items())
        limit = hidden["limit"]
        drawn = "" if limit == "all" else f" (at most {limit:,} of each, drawn at random)"
        click.echo(f"parts of the face hidden in turn in {counts}{drawn}")


def _say_what_failed(run: Path) -> None:
    """Print where the run is, and which images were not scored; exit 1 if there are such."""
    import pyarrow.parquet as pq

    from xface.wording import counted, printable

    images = pq.ParquetFile(run / "images.parquet").read(["status", "reason", "outcome"]).to_pandas()
    counts = ", ".join(f"{n} {outcome}" for outcome, n in images["outcome"].value_counts().items() if outcome)
    click.echo(f"{counted(len(images), 'image')}: {counts or 'none scored'}")
    click.echo(f"written to {printable(str(run))}; open {printable(str(run / 'report' / 'index.html'))}")
    failed = images[images["outcome"] == ""]
    for status, rows in failed.groupby("status"):
        first = printable(rows["reason"].iloc[0])
        click.echo(f"xface: {counted(len(rows), 'image')} {status}, the first: {first}", err=True)
    if len(failed):
        sys.exit(1)
