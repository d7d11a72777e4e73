"""The run's tables as CSV that spreadsheets open without running what stands in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from xface.files.csv_files import write_rows

ESTIMATE = {"value", "low", "high"}
UNKNOWN = dict.fromkeys(("value", "low", "high"))
UNADJUSTED = {"difference": UNKNOWN, **dict.fromkeys(("delta", "p", "q", "finding"))}
EQUIVALENCE = dict.fromkeys(("margin", "p", "same"))
NESTED = {"raw": UNADJUSTED, "equivalence": EQUIVALENCE}
CONTRAST = ("contrast", "n", "groups", "missing", "means", "difference", "delta", "p", "q", "finding", "note",
            "adjusted", "raw", "equivalence", "p_family", "p_all", "coarse")  # fmt: skip
STAND_INS = {"means": [UNKNOWN, UNKNOWN], **NESTED, **dict.fromkeys(
    ("lift", "share", "difference", "odds_ratio", "rate", "control_rate", "rest", "auc", "effect",
     "like_scores", "right_difference"), UNKNOWN)}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table for a CSV file of this name; `columns` are the head of one without rows."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Mapping[str, Any]]


def write_tables(tables: Iterable[Table], folder: Path) -> None:
    """Write each table into a file of its own; ValueError for a name that two of them have."""
    folder.mkdir()
    for table in tables:
        path = folder / f"{table.name}.csv"
        if path.exists():
            raise ValueError(f"two sections of the report have a table {table.name!r}; rename one")
        write_csv(table.rows, path, empty_row(table.columns))


def empty_row(columns: Sequence[str]) -> dict[str, Any]:
    """A record of which nothing is known."""
    return {name: STAND_INS.get(name) for name in columns}


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path, empty: Mapping[str, Any]) -> None:
    """Write records, which are alike, one at a time; without any only the head, that of the `empty` one.

    Estimates and pairs of them are columns of their own, lists are JSON, what is undefined is empty.
    """
    flat = (dict(_flat(_whole(row))) for row in rows)
    first = next(flat, None)
    columns = list(first or dict(_flat(empty)))
    write_rows(path, columns, chain([first] if first else [], flat))


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        yield from _columns(name, value)


def _columns(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if _is_estimate(value):
        named = {"": "value", "_low": "low", "_high": "high"}
        return [(name + end, _cell(value[part])) for end, part in named.items()]
    if name in NESTED:
        return [cell for part, each in value.items() for cell in _columns(f"{name}_{part}", each)]
    if _is_pair(value):
        return [
            cell for side, part in zip("ab", value, strict=True) for cell in _columns(f"{name}_{side}", part)
        ]
    return [(name, _cell(value))]


def _whole(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record whose records within are all there, so that every row has the same columns."""
    return {name: NESTED[name] if value is None and name in NESTED else value for name, value in row.items()}


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= ESTIMATE


def _is_pair(value: Any) -> bool:
    """Two estimates: one for each side of a contrast."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_estimate, value))
