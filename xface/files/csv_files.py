"""CSV files: rows as spreadsheets write them, and cells that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xface.files.paths import as_utf8

FORMULA = re.compile(
    r"'*(?:[\t\r\n\0]|[\s\ufeff\u200b-\u200f\u2060]*[=+\-@\N{FULLWIDTH EQUALS SIGN}"
    r"\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
"""How a text begins that spreadsheets take for a formula (OWASP, CSV injection), or that is one escaped."""

BLANKS = " \t"
"""What may stand around a cell; other blanks of Unicode are part of it, as they may be of a file's name."""


def escaped(text: str) -> str:
    """A text that no spreadsheet takes for a formula: `'` before one that would be, or is escaped already.

    Example:
        >>> escaped("=1+1"), escaped("a.jpg"), escaped("'=1+1")
        ("'=1+1", 'a.jpg', "''=1+1")
    """
    return f"'{text}" if FORMULA.match(text) else text


def unescaped(text: str) -> str:
    """The text that `escaped` was given.

    Example:
        >>> unescaped("'=1+1"), unescaped("'tis"), unescaped(escaped("'=1+1"))
        ('=1+1', "'tis", "'=1+1")
    """
    return text[1:] if text[:1] == "'" and FORMULA.match(text) else text


def read_rows(lines: Iterable[str]) -> dict[int, list[str]]:
    """The cells of each row that isn't blank, by the number of its line, counted from 1.

    Columns at the right end that are empty in all rows, as Excel writes them, are left out. Raises csv.Error.

    Example:
        >>> read_rows(["path,label,,", "a.png,real,,", ",,,"])
        {1: ['path', 'label'], 2: ['a.png', 'real']}
    """
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    rows = dict((reader.line_num, cells) for cells in reader if _width(cells))  # noqa: C402 - as it reads on
    width = max(map(_width, rows.values()), default=0)
    return {line: cells[:width] for line, cells in rows.items()}


def _width(cells: Sequence[str]) -> int:
    """How many cells there are up to the last that isn't empty."""
    return next((place for place in range(len(cells), 0, -1) if cells[place - 1].strip()), 0)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write records under a head, one at a time; what a record lacks is empty."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, columns))
        writer.writerows([_cell(row.get(name, "")) for name in columns] for row in rows)


def write_table(table: Any, path: Path) -> None:
    """Write a pandas DataFrame with its head, without its index.

    Example:
        >>> import pandas as pd, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(pd.DataFrame({"image": ["=cmd"], "lift": [-0.5]}), Path(folder, "a.csv"))
        ...     Path(folder, "a.csv").read_text()  # the ends of lines are read as \\n
        "image,lift\\n'=cmd,-0.5\\n"
    """
    texts = {name: column.map(_cell) for name, column in table.items() if column.dtype.kind not in "biufc"}
    safe = table.assign(**{str(name): column for name, column in texts.items()})
    safe.columns = safe.columns.map(_cell)
    # with lines that end in \n alone, a \r in a cell would not be quoted, and end its row for spreadsheets
    safe.to_csv(path, index=False, lineterminator="\r\n", errors="backslashreplace")


def _cell(value: Any) -> Any:
    # before Python 3.11, csv neither writes a NUL nor reads one
    return escaped(as_utf8(value).replace("\0", r"\x00")) if isinstance(value, str) else value
