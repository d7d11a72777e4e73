"""Fills README.md and docs/trust.md with what the maps of the bundled detectors earned.

    python docs/trust_tables.py

The tables are made of benchmarks/results/trust-DETECTOR-SET.json, which benchmarks/trust.py writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marked_places import fill

from xface.report.trust.answers import EFFECTS, Row, answers, rows_of
from xface.results import CONTRADICTED, INFORMATIVE, NO_BETTER
from xface.runs.trust import AnswererRecord, TrustRecord, read_trust
from xface.statistics.bootstrap import LEAST_GROUPS
from xface.wording import NOTHING, counted, figure_range, figure_text, listed, method_at

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = (
    "partial_swap",
    "agreement",
    "pixel_auc",
    "deletion",
    "insertion",
    "adversarial_1",
    "randomisation",
)
"""Those that the tables of docs/trust.md show, as far as they were measured."""

SHORT = {
    "partial_swap": "forged region first", "agreement": "agreement", "pixel_auc": "pixel AUC",
    "deletion": "deletion", "insertion": "insertion", "adversarial_1": "flips by its first region",
    "randomisation": "likeness at random",
}  # fmt: skip

FEW = {NO_BETTER: "no better", CONTRADICTED: "contradicted"}


def main() -> None:
    """Fill both pages."""
    paths = sorted(RESULTS.glob("trust-*.json"), key=_order)
    records = {path.stem.removeprefix("trust-"): read_trust(path) for path in paths}
    if records:
        fill(ROOT / "README.md", "trust", overview(records))
        fill(ROOT / "docs" / "trust.md", "earned", "\n\n".join(map(in_full, records.values())))


def _order(path: Path) -> tuple[str, bool]:
    """Sets in turn, of each resnet18 first."""
    _, detector, name = path.stem.split("-")
    return name, detector != "resnet18"


def overview(records: dict[str, TrustRecord]) -> str:
    """A row for each map, a column for each detector and set: the figure that decided its grade."""
    heads = [f"{detector}, {name}" for detector, name in (key.split("-") for key in records)]
    found = [{_name(each): each for each in [*one.effects, *one.maps]} for one in records.values()]
    rows = [
        [name, *(_cell(one, each.get(name)) for one, each in zip(records.values(), found, strict=True))]
        for name in dict.fromkeys(name for each in found for name in each)
    ]
    asked = ["what it is", *(_deciding(one) for one in records.values())]
    best = ["best baseline, by map", *(_best(one) for one in records.values())]
    return _table(["", *heads], [asked, *rows, best])


def _name(each: AnswererRecord) -> str:
    """An answer without its layer, which differs from network to network."""
    return EFFECTS if each.method == "effects" else f"`{each.method}`"


def _decided(record: TrustRecord) -> list[AnswererRecord]:
    return [each for each in record.maps if each.decided_by and record.checks[each.decided_by].ranks]


def _deciding(record: TrustRecord) -> str:
    names = dict.fromkeys(each.decided_by or "" for each in _decided(record))
    return listed([SHORT[name] for name in names]) or NOTHING


def _cell(record: TrustRecord, each: AnswererRecord | None) -> str:
    if each is None or each.decided_by is None:
        return NOTHING
    words, check = record.checks[each.decided_by], each.checks[each.decided_by]
    if not words.ranks:
        return FEW[CONTRADICTED]
    said = figure_text(check.value, words.percent)
    ranged = f"{said} ({figure_range(check.interval or [], words.percent).removesuffix(' %')})"
    return f"**{ranged}**" if each.grade == INFORMATIVE else ranged


def _best(record: TrustRecord) -> str:
    """The best baselines of the maps whose grades such a figure decided, from the lowest on."""
    decided = {str(each.decided_by): method_at(each.method, each.layer) for each in _decided(record)}
    if not decided:
        return NOTHING
    maps = {method_at(each.method, each.layer) for each in _decided(record)}
    rows = [row for name in decided for row in rows_of(record, name) if row.answer.name in maps]
    rows.sort(key=lambda row: row.baseline or 0.0)
    ends = dict.fromkeys(f"{row.said(row.baseline)} ({row.against})" for row in (rows[0], rows[-1]))
    return " to ".join(ends)


def in_full(record: TrustRecord) -> str:
    """A table of all answers of a run, with the baselines; bold is better than the best baseline."""
    shown = [name for name in FIGURES if rows_of(record, name)]
    rows = {name: {row.answer.name: row for row in rows_of(record, name)} for name in shown}
    grades = {method_at(each.method, each.layer): FEW.get(each.grade, each.grade) for each in record.maps}
    [effects] = record.effects
    grades[EFFECTS] = FEW.get(effects.grade, effects.grade)
    cells = [
        [each.name, grades.get(each.name, "baseline"), *(_full(rows[name].get(each.name)) for name in shown)]
        for each in answers(record)
    ]
    data = record.data
    asked = [counted(data.forged, "forged picture"), *_more(record)]
    title = f"`{record.detector['arch']}` on `{data.source}` (test split): {', '.join(asked)}."
    return f"{title}\n\n" + _table(["", "grade", *(SHORT[name] for name in shown)], cells)


def _more(record: TrustRecord) -> Iterator[str]:
    data = record.data
    if data.made:
        yield f"{data.made:,} made of real faces"
    if data.pairs:
        yield counted(data.pairs, "pair")
    yield counted(data.swaps, "partial swap")
    yield (
        counted(sum(each.count for each in data.left_out if each.what == "picture"), "picture") + " left out"
    )


def _full(row: Row | None) -> str:
    if row is None or row.check.n < LEAST_GROUPS:
        return NOTHING
    return f"**{row.own}**" if row.result.startswith("★") else row.own


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
