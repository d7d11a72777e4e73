"""`xface report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xface.runs.folder import RunFolder

MEASURED = ("row", "method", "layer", "status", "region", "lift")


@click.command(epilog="Example: xface report results/run --single-file")
@click.option("--compare", type=Path, metavar="RUN2", help="Another run on the same images: what changed.")
@click.option("--single-file", is_flag=True, help="One file for mail, RUN/report.html, of the worst errors.")
@click.argument("run", type=Path)
def report(run: Path, compare: Path | None, single_file: bool) -> None:
    """Draw the report of a run of `xface analyze` or `xface trust` again, from its folder alone.

    The page opens from disk, without a network. Tables as CSV and figures as PNG lie beside it.
    """
    from xface.errors import UsageError
    from xface.files.paths import is_file
    from xface.report.run.page import write_report
    from xface.runs.folder import RunFolder
    from xface.runs.trust import TRUST

    if is_file(run / TRUST, UsageError):
        click.echo(_trust_report(run, single_file or compare is not None))
        return
    runs = [RunFolder.read(each) for each in (run, compare) if each is not None]
    page = write_report(runs[0], single_file, _compared(*runs) if compare else None)
    for each in runs:
        _say_if_untrained(each, each.name if compare else "xface")
    click.echo(page)


def _trust_report(run: Path, otherwise: bool) -> Path:
    from xface.errors import UsageError
    from xface.report.trust.page import write_trust_report

    if otherwise:
        raise UsageError(f"'{run}' is a run of xface trust, which --compare and --single-file are not for")
    return write_trust_report(run)


def _say_if_untrained(run: RunFolder, name: str) -> None:
    from xface.wording import UNTRAINED_RUN, printable

    if not run.trained:
        click.secho(f"{printable(name)}: {UNTRAINED_RUN}", err=True, bold=True)


def _compared(run: RunFolder, other: RunFolder) -> dict[str, Any]:
    from xface.findings.comparison import ComparedRun, compare
    from xface.findings.findings import plain

    runs = [ComparedRun(r.images.to_pandas(), r.measures(MEASURED).to_pandas(), r.manifest, r.name)
            for r in (run, other)]  # fmt: skip
    return {**plain(compare(*runs)), "other": other.name}
