"""Attributes of the images: how those of errors differ, where errors are frequent, and which are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xface.report.html.csv_tables import CONTRAST, Table
from xface.report.run.figures import NamedFigure, draw_forest
from xface.report.run.forest import odds_forest
from xface.report.run.gallery import rows_under
from xface.report.run.sections.section import Report, Section, beside

REGRESSION = ("attribute", "odds_ratio", "p", "q", "finding")
SLICES = ("conditions", "n", "groups", "errors", "rate", "rest", "p", "q", "finding")
CLUSTERS = ("outcome", "method", "layer", "number", "size", "medoid", "members", "lifts")


def _data(report: Report) -> dict[str, Any]:
    rows = report.run.findings["attributes"] or ()
    raw = [(report.run.label(row["attribute"]), row) for row in rows if row.get("raw")]
    return {"odds": odds_forest(report.run), "raw": raw}


def _figures(report: Report) -> Iterator[NamedFigure]:
    odds = odds_forest(report.run)
    if odds.lines:
        yield "attributes", draw_forest(odds)


def _tables(report: Report) -> Iterator[Table]:
    found = report.run.findings
    yield Table("attributes", ("attribute", *CONTRAST), found["attributes"] or ())
    yield Table("regression", REGRESSION, (found["regression"] or {}).get("rows", ()))
    yield Table("slices", SLICES, found["slices"] or ())
    yield Table("clusters", CLUSTERS, found["clusters"] or ())


def _subsets(report: Report) -> dict[str, list[list[int]]]:
    slices, clusters = (report.run.findings[name] or () for name in ("slices", "clusters"))
    return {
        "slices": [rows_under(report.run, each["conditions"]) for each in slices],
        "clusters": [each["members"] for each in clusters],
    }


ATTRIBUTES = Section(
    "Attributes", beside("attributes.html"), _data, "Attributes of the images", _figures, _tables, _subsets
)
