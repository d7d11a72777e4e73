"""The verdict: how often the detector is wrong, its scores, and the images that are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from xface.report.html.csv_tables import Table
from xface.report.run.sections.section import Report, Section, beside
from xface.wording import SCORE_WORDS, counted

Row = Mapping[str, Any]
MOST_REASONS = 12


def left_out(excluded: Sequence[Row]) -> list[Row]:
    """A row for each reason to leave images out; where reasons are too many to read, for each status.

    Example:
        >>> row = {"status": "missing", "count": 1, "by_label": {"real": 1}}
        >>> [folded] = left_out([{**row, "reason": f"no file {n}.jpg"} for n in range(6000)])
        >>> folded["reason"], folded["count"], folded["by_label"]
        ('6,000 reasons, the first: no file 0.jpg', 6000, {'real': 6000})
    """
    if len(excluded) <= MOST_REASONS:
        return list(excluded)
    in_order = sorted(excluded, key=lambda row: str(row["status"]))
    return [_together(list(rows)) for _, rows in groupby(in_order, key=lambda row: row["status"])]


def _together(rows: Sequence[Row]) -> Row:
    labels: Counter[str] = sum((Counter(row["by_label"]) for row in rows), Counter())
    first = rows[0]["reason"]
    return {
        **rows[0],
        "reason": f"{counted(len(rows), 'reason')}, the first: {first}" if len(rows) > 1 else first,
        "count": sum(row["count"] for row in rows),
        "by_label": dict(labels),
    }


def _data(report: Report) -> dict[str, Any]:
    excluded = report.run.findings["summary"]["excluded"]
    return {"excluded": left_out(excluded), "score_words": SCORE_WORDS}


def _tables(report: Report) -> Iterator[Table]:
    summary = report.run.findings["summary"]
    yield Table("excluded", ("status", "reason", "count", "by_label", "example"), summary["excluded"])
    scores = [{"score": name, **estimate} for name, estimate in summary["scores"].items()]
    yield Table("scores", ("score", "value", "low", "high"), scores)


VERDICT = Section("Verdict", beside("verdict.html"), _data, tables=_tables)
