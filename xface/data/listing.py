"""A listing: the pictures that a source names, as it was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import infer_dtype

from xface.errors import DataError


@dataclass(frozen=True, eq=False)
class Listing:
    """Pictures and what their source says of them, a row each, and notes on what it leaves out.

    `table` has `path` and `label`, and further columns as `Samples` has them, all made text, "" for what is
    missing; where `file` lists the pictures, its index is each row's line there.

    Raises:
        DataError: the table lacks a column.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    file: Path | None = None

    def __post_init__(self) -> None:
        check_columns(self.table)
        cells = {str(name): _as_text(cells) for name, cells in self.table.items()}
        object.__setattr__(self, "table", pd.DataFrame(cells, self.table.index))


def check_columns(table: pd.DataFrame) -> None:
    """Raise DataError unless a table says where pictures are and of which class."""
    for column in ("path", "label"):
        if column not in table:
            named = ", ".join(map(str, table.columns))
            raise DataError(f"samples need a column {column!r}; these have {named}")


def _as_text(cells: pd.Series[Any]) -> pd.Series[Any]:
    if infer_dtype(cells, skipna=False) == "string":
        return cells
    texts = ["" if absent else str(cell) for cell, absent in zip(cells, cells.isna(), strict=True)]
    return pd.Series(texts, cells.index, object)
