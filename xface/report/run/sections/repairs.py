"""What hiding parts of the face repairs: how often it turns errors, and right verdicts with like scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from xface.report.html.axes import linear_axis
from xface.report.html.csv_tables import Table
from xface.report.html.forest import Forest, Line, Series
from xface.report.run.figures import NamedFigure, draw_forest
from xface.report.run.forest import NEGATIVE, POSITIVE
from xface.report.run.sections.section import Report, Section, beside
from xface.results import LIKENESSES, OUTCOMES, POSITIVES
from xface.wording import p_value, spaced

Row = Mapping[str, Any]
COLUMNS = ("outcome", "region", "images", "n", "groups", "turned", "rate", "control_turned", "control_rate",
           "difference", "effect", "p", "q", "finding", "note", "like_scores", "rows", "right_difference",
           "right_p", "right_q", "right_finding", "right_p_family", "right_p_all", "right_note")  # fmt: skip


def _repairs(report: Report) -> list[Row]:
    return report.run.findings.get("repairs") or []


def _data(report: Report) -> dict[str, Any] | None:
    """Of each kind of error that was measured, its plot and the rows of its table with those beside them."""
    if not (rows := _repairs(report)):
        return None
    number = {id(row): index for index, row in enumerate(rows)}
    kinds = []
    for error, right in LIKENESSES.values():
        beside_it = {row["region"]: row for row in rows if row["outcome"] == right}
        of = [(number[id(row)], row, beside_it.get(row["region"])) for row in rows if row["outcome"] == error]
        if any(row["n"] for _, row, _ in of):
            kinds.append({"error": error, "right": right, "rows": of, "forest": _forest(error, right, of)})
    told = [each["text"] for each in report.run.findings["sentences"] or () if each["about"] == "count"]
    return {"kinds": kinds, "names": OUTCOMES, "told": told}


def _forest(error: str, right: str, rows: list[tuple[int, Row, Row | None]]) -> Forest:
    colours = {name: POSITIVE if name in POSITIVES else NEGATIVE for name in (error, right)}
    series = (
        Series(OUTCOMES[error], colours[error], False, True),
        Series(f"{OUTCOMES[error]}, as much hidden elsewhere", colours[error], False, False),
        Series(f"{OUTCOMES[right]} with like scores", colours[right], True, True),
    )
    lines = tuple(
        Line(
            spaced(row["region"]),
            (row["rate"], row["control_rate"], row["like_scores"]),
            (f"q {p_value(row['right_q'])}",) if row["finding"] else (),
        )
        for _, row, _ in rows
    )
    title, axis = f"Verdicts that hiding a part turns: {OUTCOMES[error]}", "verdicts that turn, per cent"
    return Forest(title, axis, series, lines, partial(linear_axis, percent=True))


def _figures(report: Report) -> Iterator[NamedFigure]:
    for kind in (_data(report) or {"kinds": ()})["kinds"]:
        yield f"repairs-{kind['error']}", draw_forest(kind["forest"])


REPAIRS = Section(
    "Repairs",
    beside("repairs.html"),
    _data,
    "What hiding parts of the face repairs",
    _figures,
    lambda report: [Table("repairs", COLUMNS, rows)] if (rows := _repairs(report)) else [],
    lambda report: {"repairs": [row["rows"] for row in _repairs(report)]},
)
