"""Grids: one run for each combination of listed values, and one table of them all."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from xface.errors import InterruptedRunError, UsageError, XFaceError
from xface.files.csv_files import write_rows
from xface.files.hashes import sha256_of
from xface.files.names import safe_name
from xface.files.writing import written_aside
from xface.training.config import Config
from xface.training.config_files import as_config
from xface.training.data_module import divided, write_samples
from xface.training.run import CONFIG, SAMPLES, Run, Tell, resume, train
from xface.training.yaml_files import Document
from xface.wording import aligned

CELLS, TABLE = "cells", "table.csv"
LONGEST = 80
UNSHOWN = ("_precision", "_recall", "_images")


@dataclass(frozen=True)
class Cell:
    """One combination: its values by dotted keys, its config, and its folder."""

    values: dict[str, Any]
    config: Config
    folder: Path


@dataclass(frozen=True)
class GridSearch:
    """The finished grid: a row of `table.csv` for each cell, the values first, then scores or `error`."""

    table: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = field(repr=False)


def cells(document: Document) -> list[Cell]:
    """The cross product of the values that a document's `grid` lists, in its order, the last key fastest.

    Raises:
        UsageError: there is no grid, a list is empty, or a combination is not a valid config.

    Example:
        >>> from xface.training.yaml_files import parse
        >>> text = "network: meso4\\ndata: {train: a.csv}\\nprefix: g\\ngrid: {seed: [0, 1], batch_size: [8]}"
        >>> [cell.values for cell in cells(parse(text, "grid.yaml"))]
        [{'seed': 0, 'batch_size': 8}, {'seed': 1, 'batch_size': 8}]
    """
    as_config(document)  # the lines of what is wrong without the grid's values
    lists = document.values.get("grid")
    if not lists:
        raise UsageError(f"{document.name} has no grid; list values there, such as grid: {{seed: [0, 1, 2]}}")
    if empty := [key for key, values in lists.items() if not values]:
        raise UsageError(f"{document.place(('grid', empty[0]))}: grid.{empty[0]} lists no value")
    combined = product(*lists.values())
    return [_cell(document, dict(zip(lists, values, strict=True))) for values in combined]


def _cell(document: Document, values: dict[str, Any]) -> Cell:
    rest = {key: value for key, value in document.values.items() if key != "grid"}
    bare = Document(document.name, rest, document.origins)
    assignments = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    folder = Path(document.values["prefix"]) / CELLS / cell_name(values)
    changed = bare.changed([*assignments, f"prefix={json.dumps(str(folder))}"])
    return Cell(values, as_config(changed), folder)


def cell_name(values: dict[str, Any]) -> str:
    """A folder's name for a combination; a long one is cut and ends in a hash.

    Example:
        >>> cell_name({"optimizer.lr": 0.001, "network": "resnet18"})
        'lr=0.001,network=resnet18'
    """
    parts = (f"{key.rpartition('.')[2]}={_short(value)}" for key, value in values.items())
    name = ",".join(parts)
    plain = ",".join("=".join(safe_name(half) for half in part.split("=", 1)) for part in name.split(","))
    if plain == name and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{safe_name(plain)[:LONGEST]}-{digest}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_grid(document: Document, tell: Tell = lambda line: None, progress: bool = False) -> GridSearch:
    """Run all cells, those that are finished or begun already being taken up, and write the table.

    A cell that fails costs itself only: the table has its error, and it is run again next time.

    Raises:
        UsageError: the grid is wrong, or a cell's folder holds a run with other settings.
    """
    planned = cells(document)
    place = Path(document.values["prefix"])
    for cell in planned:
        _check_same(cell)
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(planned, start=1):
        named = ", ".join(f"{key} {value}" for key, value in cell.values.items())
        tell(f"=== {number} of {len(planned)}: {named}")
        rows.append({**cell.values, **_outcome(cell, tell, progress)})
        _write_table(rows, place / TABLE)
    return GridSearch(place / TABLE, _columns(rows), tuple(rows))


def _settings_file(cell: Cell) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}.json")


def _settings(cell: Cell) -> str:
    return json.dumps(cell.config.model_dump(mode="json"), sort_keys=True)


def _read_settings(file: Path) -> Any:
    """What a cell was begun with; None for what is no JSON."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None


def _check_same(cell: Cell) -> None:
    """Raise UsageError if the folder holds a run of other settings, or of data that held something else."""
    file = _settings_file(cell)
    if not (cell.folder / CONFIG).is_file() or not file.is_file():
        return
    if _read_settings(file) != json.loads(_settings(cell)):
        raise UsageError(
            f"{str(cell.folder)!r} holds a run with other settings; remove it, or give another prefix"
        )
    with tempfile.NamedTemporaryFile() as now:
        write_samples(divided(cell.config.data)[0], Path(now.name))
        same = sha256_of(now.name) == sha256_of(cell.folder / SAMPLES)
    if not same:
        raise UsageError(
            f"{str(cell.folder)!r} holds a run of other data: labels, splits or pictures were changed since; "
            "remove it, or give another prefix"
        )


def _outcome(cell: Cell, tell: Tell, progress: bool) -> dict[str, Any]:
    try:
        run = _ran(cell, tell, progress)
    except InterruptedRunError as error:
        raise InterruptedRunError("interrupted; the same command resumes the grid") from error
    except XFaceError as error:
        tell(f"failed: {error}")
        return {"error": str(error)}
    seconds = sum(row["seconds"] for row in run.rows)
    return {"epochs": len(run.rows), **run.scores, "seconds": round(seconds, 1), "error": ""}


def _ran(cell: Cell, tell: Tell, progress: bool) -> Run:
    if (cell.folder / CONFIG).is_file():
        return resume(cell.folder, tell, progress)
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(_settings_file(cell)) as part:
        part.write_text(_settings(cell), encoding="utf-8")
    return train(cell.config, tell, progress)


def _columns(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for row in rows for name in row)
    return (*(name for name in names if name != "error"), "error")


def _write_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    with written_aside(file) as part:
        write_rows(part, _columns(rows), rows)


def grid_table(grid: GridSearch) -> str:
    """The table as aligned text: what was varied, and the scores that matter."""
    names = [name for name in grid.columns if not name.endswith(UNSHOWN)]
    head = [name.replace("validation_", "val_") for name in names]
    rows = [[_shown(row.get(name, "")) for name in names] for row in grid.rows]
    return aligned([head, *rows], left=len(names))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
