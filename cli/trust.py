"""`xface trust`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import print_json
from .cautions import say_cautions, say_notes
from .options import DATA, LABELS, LAYERS, RESUME, SPLIT, detector_options

if TYPE_CHECKING:
    from xface.evidence.trust.plan import TrustPlan
    from xface.runs.trust import TrustRecord

EPILOG = """\b
Examples:
  xface trust --weights resnet18 --data faces/manifest.csv --split test --out trust
  xface trust --weights mine.pth --data faces --masks masks --quick --out trust
"""


@click.command(epilog=EPILOG)
@detector_options
@DATA
@LABELS
@SPLIT
@click.option("--pairs", metavar="COLUMN", help="Column that names the real picture of a forged one, or "
              "that both share (default: pair).")  # fmt: skip
@click.option("--masks", type=Path, metavar="DIR", help="A folder with a mask for each forged picture, of "
              "its name: white is manipulated (default: where a pair differs).")  # fmt: skip
@click.option("--limit", type=int, metavar="N", help="Use only N forged pictures, drawn at random.")
@click.option(
    "--quick",
    is_flag=True,
    help="Use 60 forged pictures, fewer for the costly checks, none for adversarial regions.",
)
@click.option("--group-by", default="group", metavar="COLUMN", show_default=True,
              help="Column that groups dependent images.")  # fmt: skip
@click.option("--method", "methods", multiple=True, metavar="NAME", help="A method of `xface methods`; may "
              "be repeated (default: the core ones, gradcam++, layercam, eigencam).")  # fmt: skip
@LAYERS
@click.option("--out", type=Path, metavar="RUN", default=Path("results/trust"), show_default=True,
              help="A new folder for the run.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, metavar="N",
              help="Processes that read pictures.")  # fmt: skip
@RESUME
@click.option("--json", "as_json", is_flag=True, help="Print trust.json on one line of stdout.")
def trust(
    arch: str | None,
    weights: str | None,
    state_key: str | None,
    positive: str | None,
    device: str,
    face_detector: str,
    data: str,
    labels: dict[str, str],
    split: str | None,
    pairs: str | None,
    masks: Path | None,
    limit: int | None,
    quick: bool,
    group_by: str,
    methods: tuple[str, ...],
    layers: tuple[str, ...],
    out: Path,
    workers: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Check which maps of a detector can be believed, and whether region effects do better.

    Each map, and the effect of hiding each region, is held against what is known of forged pictures, beside
    four baselines that know nothing of the trained network.
    """
    import xface
    from xface.data import read_samples
    from xface.evaluation.scoring import vocabulary
    from xface.evidence.trust.plan import plan_trust
    from xface.runs.trust import read_trust

    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    say_cautions(detector)
    samples = read_samples(data, keep_missing=True, labels=vocabulary(detector, labels))
    say_notes(samples.notes)
    plan = plan_trust(
        detector, samples, data, methods, layers or None, split=split, pairs=pairs, masks=masks, limit=limit,
        group_by=group_by, quick=quick,
    )  # fmt: skip
    say_notes(plan.detector.notes[len(detector.notes) :])
    run = _run(plan, out, workers, resume)
    record = read_trust(run)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        _say_verdicts(record, run)
    _say_left_out(record)


def _run(plan: TrustPlan, out: Path, workers: int, resume: bool) -> Path:
    from xface.errors import InterruptedRunError
    from xface.evidence.trust.run import trust as run_trust

    try:
        return run_trust(
            plan, out, workers=workers, resume=resume, command=["xface", *sys.argv[1:]], progress=_progress
        )
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped; the same command with --resume resumes it") from None


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int], object]]:
    """A bar with the remaining time and the seconds per picture so far."""
    start, done = time.perf_counter(), 0
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=count, label="trust", file=sys.stderr, hidden=hidden, item_show_func=lambda rate: rate
    ) as bar:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.update(more, f"{(time.perf_counter() - start) / done:.1f} s/picture")

        yield advance


def _say_verdicts(record: TrustRecord, run: Path) -> None:
    """Print the verdict on each map and on the region effects, and where the run is."""
    from xface.wording import method_at, printable

    for answerer in (*record.effects, *record.maps):
        click.echo(f"{printable(method_at(answerer.method, answerer.layer or ''))}: {answerer.verdict}")
    click.echo(f"written to {printable(str(run))}; open {printable(str(run / 'report' / 'index.html'))}")


def _say_left_out(record: TrustRecord) -> None:
    """Print what could not be asked about; exit 1 if pictures could not be read."""
    from xface.wording import counted, printable

    for each in record.data.left_out:
        words = f"{counted(each.count, each.what)} left out: {each.reason}; the first: {each.example}"
        click.echo(f"xface: {printable(words)}", err=True)
    if any(each.failed for each in record.data.left_out):
        sys.exit(1)
