"""Errors by the columns of the data that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Any

from xface.report.html.csv_tables import Table
from xface.report.run.sections.section import Report, Section, beside
from xface.runs.folder import RunFolder
from xface.wording import RATE_WORDS

COLUMNS = ("column", "words", "n", "groups", "outcome", "errors", "of", "rate", "rest", "p", "q", "finding",
           "note", "auc", "against_all")  # fmt: skip


def _breakdowns(report: Report) -> list[Mapping[str, Any]]:
    return report.run.findings.get("breakdowns") or []


def _data(report: Report) -> dict[str, Any] | None:
    numbers = count()
    shown = [
        {**each, "parts": [{**part, "number": next(numbers)} for part in each["parts"]]}
        for each in _breakdowns(report)
    ]
    return {"breakdowns": shown, "rate_words": RATE_WORDS} if shown else None


def _tables(report: Report) -> Iterator[Table]:
    if _breakdowns(report):
        yield Table("breakdowns", COLUMNS, _rows(report))


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row for each part and kind of error."""
    for each in _breakdowns(report):
        for part in each["parts"]:
            for rate in part["rates"]:
                found = {**part, **rate, "column": each["column"], "of": rate["n"]}
                found |= {name: part[name] for name in ("n", "groups")}
                yield {name: found[name] for name in COLUMNS}


def _subsets(report: Report) -> dict[str, list[list[int]]]:
    return {"breakdowns": [rows for each in _breakdowns(report) for rows in _rows_of_parts(report.run, each)]}


def _rows_of_parts(run: RunFolder, breakdown: Mapping[str, Any]) -> Iterator[list[int]]:
    """The rows of the images that were classified in each part."""
    texts = run.texts(breakdown["column"])
    named = {part["value"] for part in breakdown["parts"]} | {""}
    judged = list(zip(run.rows.tolist(), texts, run.texts("outcome"), strict=True))
    for part in breakdown["parts"]:
        yield [row for row, text, outcome in judged if outcome and _is_in(part, text, named)]


def _is_in(part: Mapping[str, Any], text: str, named: AbstractSet[str]) -> bool:
    if part["kind"] == "numbers":
        low, high = part["low"], part["high"]
        return bool(text) and (low is None or float(text) > low) and (high is None or float(text) <= high)
    return text not in named if part["kind"] == "others" else text == (part["value"] or "")


BREAKDOWNS = Section(
    "By column",
    beside("breakdowns.html"),
    _data,
    heading="Errors by columns of the data",
    tables=_tables,
    subsets=_subsets,
)
