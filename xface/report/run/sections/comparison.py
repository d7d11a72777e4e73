"""The comparison with another run: which errors it corrects, and how the regions' lifts changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xface.report.html.csv_tables import Table
from xface.report.run.sections.section import Report, Section, beside
from xface.wording import CHANGE_WORDS


def _tables(report: Report) -> Iterator[Table]:
    if report.compare:
        columns = ("method", "layer", "region", "images", "groups", "difference", "moved")
        yield Table("comparison", columns, report.compare["regions"])
        yield Table("changes", ("change", "row", "row_other", "image"), _changes(report))


def _changes(report: Report) -> Iterator[dict[str, Any]]:
    """The errors that were fixed, are new and stayed, by their rows in both runs."""
    run, compare = report.run, report.compare or {}
    names = dict(zip(run.rows.tolist(), run.texts("image"), strict=True))
    for change in CHANGE_WORDS:
        for row, other in compare.get(change, ()):
            yield {"change": change, "row": row, "row_other": other, "image": names[row]}


def _subsets(report: Report) -> dict[str, list[list[int]]]:
    compare = report.compare or {}
    return {"changes": [[row for row, _ in compare.get(name, ())] for name in CHANGE_WORDS]}


COMPARISON = Section(
    "Comparison",
    beside("comparison.html"),
    lambda report: {"changes": CHANGE_WORDS} if report.compare else None,
    heading="Comparison with another run",
    tables=_tables,
    subsets=_subsets,
)
