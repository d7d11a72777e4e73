"""The answers of a trust run, check by check: what the page's tables and drawings show of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.html.axes import linear_axis
from xface.report.html.forest import Forest, Line, Series
from xface.runs.trust import CheckRecord, CheckWords, TrustRecord
from xface.wording import BASELINE_WORDS, NOTHING, figure_range, figure_text, method_at

OWN = Series("value", DARK_BLUE, square=False, filled=True)
BEST = Series("the best baseline's", DARK_VERMILION, square=True, filled=False)
DIFFERENCE = Series("difference", DARK_BLUE, square=False, filled=True)
EFFECTS = "region effects"


@dataclass(frozen=True)
class Answer:
    """One answerer under its name: a map, the region effects, or a baseline; and its checks."""

    name: str
    kind: str
    checks: Mapping[str, CheckRecord]


def answers(record: TrustRecord) -> list[Answer]:
    """The region effects first, then the maps, then the baselines that are of no map."""
    own = [Answer(EFFECTS, "effects", each.checks) for each in record.effects]
    maps = [Answer(method_at(each.method, each.layer), "map", each.checks) for each in record.maps]
    others = [
        Answer(BASELINE_WORDS.get(each.method, each.method), "baseline", each.checks)
        for each in record.baselines
        if each.of is None
    ]
    return [*own, *maps, *others]


@dataclass(frozen=True)
class Row:
    """An answer on one figure, with what it is compared to; `result` says how that ends."""

    answer: Answer
    check: CheckRecord
    words: CheckWords

    @property
    def baseline(self) -> float | None:
        """The best baseline's value on the same cases."""
        known = self.check.value is not None and self.check.difference is not None
        return self.check.value - self.check.difference if known else None  # type: ignore[operator]

    @property
    def against(self) -> str:
        """The best baseline in words."""
        name = self.check.best_baseline or ""
        return BASELINE_WORDS.get(name, name)

    @property
    def result(self) -> str:
        """Whether the interval of the difference that holds for all answers leaves out 0, on which side."""
        if self.check.simultaneous_interval is None:
            return "" if self.check.best_baseline is None else "not tested"
        low, high = self.check.simultaneous_interval
        if self.words.better == "lower":
            low, high = -high, -low
        return "★ better" if low > 0 else "worse" if high < 0 else "not shown to be better"

    def said(self, value: float | None, signed: bool = False) -> str:
        """A value of this figure in words."""
        return figure_text(value, self.words.percent, signed)

    @property
    def own(self) -> str:
        """The value with its interval, in words."""
        return self._ranged(self.check.value, self.check.interval)

    @property
    def difference(self) -> str:
        """The difference with its interval, in words."""
        return self._ranged(self.check.difference, self.check.difference_interval, signed=True)

    def _ranged(self, value: float | None, interval: Sequence[float] | None, signed: bool = False) -> str:
        own = self.said(value, signed)
        if interval is None:
            return own
        return f"{own} ({figure_range(interval, self.words.percent, signed).removesuffix(' %')})"


def rows_of(record: TrustRecord, name: str) -> list[Row]:
    """The answers that have a value on a figure."""
    found = [(each, each.checks.get(name)) for each in answers(record)]
    words = record.checks[name]
    return [Row(each, check, words) for each, check in found if check and check.value is not None]


def _estimate(value: float | None, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high}


def forests(rows: Sequence[Row]) -> tuple[Forest, Forest]:
    """Values beside those of the best baselines, and the differences; a line for each row."""
    words = rows[0].words
    scale = partial(linear_axis, percent=words.percent)
    unit = ", %" if words.percent else ""
    values = tuple(
        Line(row.answer.name, (_estimate(row.check.value, row.check.interval), _estimate(row.baseline, None)))
        for row in rows
    )
    differences = tuple(Line(row.answer.name, (_difference(row.check),), _remarks(row)) for row in rows)
    return (
        Forest(words.title, f"value{unit} ({words.better} is better)", (OWN, BEST), values, scale),
        Forest(words.title, f"less the best baseline{unit}", (DIFFERENCE,), differences, scale),
    )


def _difference(check: CheckRecord) -> dict[str, float | None]:
    return _estimate(check.difference, check.difference_interval)


def _remarks(row: Row) -> tuple[str, ...]:
    if row.check.simultaneous_interval is None:
        return (row.result,) if row.result else ()
    return (f"{row.result} than {row.against}",)


@dataclass(frozen=True)
class PartsTable:
    """The values on some of the cases, or at points of a curve: a row for each answer, a column for each."""

    by: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def parts_tables(rows: Sequence[Row]) -> Iterator[PartsTable]:
    """A table for each thing that divides a figure's cases."""
    every = [part for row in rows for part in row.check.parts]
    for by in dict.fromkeys(part.by for part in every):
        columns = tuple(dict.fromkeys(part.name for part in every if part.by == by))
        yield PartsTable(by, columns, tuple((row.answer.name, _cells(row, by, columns)) for row in rows))


def _cells(row: Row, by: str, columns: Sequence[str]) -> tuple[str, ...]:
    found = {part.name: part for part in row.check.parts if part.by == by}
    return tuple(
        f"{row.said(found[name].value)} (n {found[name].n:,})" if name in found else NOTHING
        for name in columns
    )


def families(record: TrustRecord) -> dict[str, list[str]]:
    """The figures of each check that some answer has a value on."""
    found: dict[str, list[str]] = {}
    for name, words in record.checks.items():
        if rows_of(record, name):
            found.setdefault(words.family, []).append(name)
    return found


def table_rows(record: TrustRecord) -> Iterator[dict[str, Any]]:
    """All figures of all answerers, baselines of single maps among them, for a CSV file."""
    for kind, each in [*_all(record, "maps"), *_all(record, "effects")]:
        yield from _csv(kind, each.method, each.layer, each.checks)
    for each in record.baselines:
        yield from _csv(each.method, each.of, each.layer, each.checks)


def _all(record: TrustRecord, name: str) -> list[tuple[str, Any]]:
    return [(name, each) for each in getattr(record, name)]


def _csv(
    kind: str, method: str | None, layer: str | None, checks: Mapping[str, CheckRecord]
) -> Iterator[dict[str, Any]]:
    for name, check in checks.items():
        low, high = check.simultaneous_interval or (None, None)
        yield {
            "answerer": kind, "method": method, "layer": layer, "check": name, "n": check.n,
            "value": _estimate(check.value, check.interval), "best_baseline": check.best_baseline,
            "difference": _difference(check), "simultaneous_low": low, "simultaneous_high": high,
        }  # fmt: skip
