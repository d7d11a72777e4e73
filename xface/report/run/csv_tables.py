"""The run's tables as CSV that spreadsheets open without running what stands in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from xface.files.csv_files import write_rows
from xface.runs.folder import BATCH, RunFolder
from xface.wording import CHANGE_WORDS

ESTIMATE = {"value", "low", "high"}
UNKNOWN = dict.fromkeys(("value", "low", "high"))
CONTRAST = ("contrast", "n", "groups", "missing", "means", "difference", "delta", "p", "q", "finding", "note")
COLUMNS: Mapping[str, Sequence[str]] = {
    "regions": ("method", "layer", "region", "outcome", "n", "groups", "lift", "share"),
    "contrasts": ("method", "layer", "region", *CONTRAST),
    "attributes": ("attribute", *CONTRAST),
    "regression": ("attribute", "odds_ratio", "p", "q", "finding"),
    "slices": ("conditions", "n", "groups", "errors", "rate", "rest", "p", "q", "finding"),
    "clusters": ("outcome", "method", "layer", "number", "size", "medoid", "members", "lifts"),
    "sentences": ("text", "about", "contrast", "name", "rows"),
    "excluded": ("status", "reason", "count", "by_label", "example"),
    "scores": ("score", "value", "low", "high"),
    "comparison": ("method", "layer", "region", "images", "groups", "difference", "moved"),
    "changes": ("change", "row", "row_other", "image"),
}
"""What a table that has no row has for a head."""
STAND_INS = {"means": [UNKNOWN, UNKNOWN], **dict.fromkeys(
    ("lift", "share", "difference", "odds_ratio", "rate", "rest"), UNKNOWN)}  # fmt: skip


def write_tables(run: RunFolder, folder: Path, compare: Mapping[str, Any] | None = None) -> None:
    """Write every table of the findings, and the table of images, one file each."""
    folder.mkdir()
    for name, rows in _tables(run, compare):
        write_csv(rows, folder / f"{name}.csv", empty_row(COLUMNS[name]))
    rows = (row for batch in run.images.to_batches(max_chunksize=BATCH) for row in batch.to_pylist())
    write_csv(rows, folder / "images.csv", empty_row(run.images.column_names))


def _tables(
    run: RunFolder, compare: Mapping[str, Any] | None
) -> Iterator[tuple[str, Iterable[Mapping[str, Any]]]]:
    found, summary = run.findings, run.findings["summary"]
    for name in ("regions", "contrasts", "attributes", "slices", "clusters", "sentences"):
        yield name, found[name] or ()
    yield "regression", (found["regression"] or {}).get("rows", ())
    yield "excluded", summary["excluded"]
    yield "scores", [{"score": name, **estimate} for name, estimate in summary["scores"].items()]
    if compare:
        yield "comparison", compare["regions"]
        yield "changes", _changes(run, compare)


def _changes(run: RunFolder, compare: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors that were fixed, are new and stayed, by their rows in both runs."""
    names = dict(zip(run.rows.tolist(), run.texts("image"), strict=True))
    for change in CHANGE_WORDS:
        for row, other in compare[change]:
            yield {"change": change, "row": row, "row_other": other, "image": names[row]}


def empty_row(columns: Sequence[str]) -> dict[str, Any]:
    """A record of which nothing is known."""
    return {name: STAND_INS.get(name) for name in columns}


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path, empty: Mapping[str, Any]) -> None:
    """Write records, which are alike, one at a time; without any only the head, that of the `empty` one.

    Estimates and pairs of them are columns of their own, lists are JSON, what is undefined is empty.
    """
    flat = (dict(_flat(row)) for row in rows)
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
    if _is_pair(value):
        return [
            cell for side, part in zip("ab", value, strict=True) for cell in _columns(f"{name}_{side}", part)
        ]
    return [(name, _cell(value))]


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= ESTIMATE


def _is_pair(value: Any) -> bool:
    """Two estimates: one for each side of a contrast."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_estimate, value))
