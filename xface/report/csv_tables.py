"""The run's tables as CSV that spreadsheets open without running what stands in them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xface.report.run_folder import RunFolder

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Spreadsheets take a text that begins so for a formula (OWASP, CSV injection)."""

ESTIMATE = {"value", "low", "high"}


def write_tables(run: RunFolder, folder: Path, compare: Mapping[str, Any] | None = None) -> None:
    """Write every table of the findings, and the table of images, one file each."""
    folder.mkdir()
    if compare:
        write_csv(compare["regions"], folder / "comparison.csv")
    for name in ("regions", "contrasts", "attributes", "slices", "clusters", "sentences"):
        write_csv(run.findings[name] or (), folder / f"{name}.csv")
    summary = run.findings["summary"]
    write_csv((run.findings["regression"] or {}).get("rows", ()), folder / "regression.csv")
    write_csv(summary["excluded"], folder / "excluded.csv")
    write_csv([{"score": name, **found} for name, found in summary["scores"].items()], folder / "scores.csv")
    write_csv(run.images.to_pylist(), folder / "images.csv")


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write records: estimates and pairs as columns of their own, lists as JSON, what is undefined empty."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(safe_cell, columns))
        writer.writerows([row.get(name, "") for name in columns] for row in flat)


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula.

    Example:
        >>> safe_cell("=1+1"), safe_cell("a.jpg"), safe_cell(-0.5), safe_cell(float("nan"))
        ("'=1+1", 'a.jpg', -0.5, '')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        yield from _columns(name, value)


def _columns(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if _is_estimate(value):
        named = {"": "value", "_low": "low", "_high": "high"}
        return [(name + end, safe_cell(value[part])) for end, part in named.items()]
    if _is_pair(value):
        return [
            cell for side, part in zip("ab", value, strict=True) for cell in _columns(f"{name}_{side}", part)
        ]
    return [(name, safe_cell(value))]


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= ESTIMATE


def _is_pair(value: Any) -> bool:
    """Two estimates: one for each side of a contrast."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_estimate, value))
