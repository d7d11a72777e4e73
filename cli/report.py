"""`xface report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

MEASURED = ("row", "method", "layer", "status", "region", "lift")


@click.command(epilog="Example: xface report results/run --single-file")
@click.option("--compare", type=Path, metavar="RUN2", help="Another run on the same images: what changed.")
@click.option("--single-file", is_flag=True, help="One file for mail, RUN/report.html, of the worst errors.")
@click.argument("run", type=Path)
def report(run: Path, compare: Path | None, single_file: bool) -> None:
    """Draw the report of a run of `xface analyze` again, from its folder alone.

    The page opens from disk, without a network. Tables as CSV and figures as PNG lie beside it.
    """
    from xface.report.page import write_report

    click.echo(write_report(run, single_file, _compared(run, compare) if compare else None))


def _compared(run: Path, other: Path) -> dict[str, Any]:
    from xface.analysis.comparison import Run, compare
    from xface.analysis.findings import plain
    from xface.report.run_folder import RunFolder

    read = [(each, RunFolder.read(each)) for each in (run, other)]
    runs = [Run(r.images.to_pandas(), _regions(p), r.manifest, p.resolve().name) for p, r in read]
    return {**plain(compare(*runs)), "other": other.resolve().name}


def _regions(run: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(run / "regions.parquet", columns=list(MEASURED))
