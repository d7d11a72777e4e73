"""Ways in which people, editors and disks change files: any file, JSON, CSV and Parquet."""

import copy
import csv
import json
import os
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Change = Callable[[Path], object]

VALUES = {"null": None, "word": "x", "empty": "", "negative": -1, "zero": 0, "huge": 10**400,
          "infinite": 1e400, "list": [], "mapping": {}, "true": True, "nested": [[1]], "words": {"x": "y"},
          "surrogate": "\ud800", "markup": "</script><b>"}  # fmt: skip
GONE = object()
NUL = "\ufffe"  # in its place: before Python 3.11 the writer of CSV refuses it


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _swapped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0x55
    path.write_bytes(content)


ANY: dict[str, Change] = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by one": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "garbage": lambda path: path.write_bytes(b"\x00\xff\xfe garbage"),
    "a bit swapped": _swapped,
    "zeros after it": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 100),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a word": lambda path: path.write_text('"x"'),
    "a folder": _folder,
    "a pipe": _fifo,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}
"""What can become of any file."""


def json_changes(content: object) -> Iterator[tuple[str, Change]]:
    """Each value at each place of a JSON file, of lists the first; and each key gone."""
    for place in _places(content):
        yield f"{_name(place)} gone", _changed(content, place, GONE)
        for name, value in VALUES.items():
            yield f"{_name(place)} {name}", _changed(content, place, value)


def _places(content: object, place: tuple = ()) -> Iterator[tuple]:
    inner = content.items() if isinstance(content, dict) else enumerate(content[:1])
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*place, key))


def _name(place: tuple) -> str:
    return ".".join(map(str, place))


def _changed(content: object, place: tuple, value: object) -> Change:
    def write(path: Path) -> None:
        inner = changed = copy.deepcopy(content)
        for key in place[:-1]:
            inner = inner[key]
        if value is GONE:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        path.write_text(json.dumps(changed))

    return write


def parquet_changes(path: Path) -> Iterator[tuple[str, Change]]:
    """Columns gone, of another type, empty or twice; rows gone, twice, in another order; nothing at all."""
    table = pq.ParquetFile(path).read()
    for name in table.column_names:
        at, column = table.column_names.index(name), table[name]
        typed = {
            "null": pa.nulls(len(table)),
            "words": pa.array([f"x{i % 3}" for i in range(len(table))]),
            "numbers": pa.array([i - 1 for i in range(len(table))]),
            "floats": pa.array([float("nan")] * len(table)),
            "large": pa.array([1e300] * len(table)),
            "categories": pa.array(["a"] * len(table)).dictionary_encode(),
            "lists": pa.array([[1, None]] * len(table)),
            "first null": pa.chunked_array([pa.nulls(1, column.type), *column[1:].chunks]),
        }
        yield f"{name} gone", _written(table.drop_columns([name]))
        yield f"{name} twice", _written(table.append_column(name, column))
        for kind, values in typed.items():
            yield f"{name} {kind}", _written(table.set_column(at, name, values))
    rows = {"none": table[:0], "half": table[: len(table) // 2], "twice": pa.concat_tables([table, table]),
            "one twice": pa.concat_tables([table, table[:1]]), "reversed": table[::-1],
            "one replaced": pa.concat_tables([table[1:], table[1:2]])}  # fmt: skip
    for name, made in rows.items():
        yield f"rows {name}", _written(made)
    yield "no columns", _written(table.select([]))


def _written(table: pa.Table) -> Change:
    return lambda path: pq.write_table(table, path)


def csv_changes(path: Path) -> Iterator[tuple[str, Change]]:
    """Columns gone, renamed and emptied; rows gone, twice, too long and too short."""
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    for at, name in enumerate(head):
        yield f"{name} gone", _lines([[*row[:at], *row[at + 1 :]] for row in [head, *rows]])
        yield f"{name} renamed", _lines([[*head[:at], "x", *head[at + 1 :]], *rows])
        for value in ("", "x", "-1", "1e999", "nan", "\0"):
            yield f"{name} {value!r}", _lines([head, *([*row[:at], value, *row[at + 1 :]] for row in rows)])
    yield "rows gone", _lines([head])
    yield "rows twice", _lines([head, *rows, *rows])
    yield "row gone", _lines([head, *rows[1:]])
    yield "row too long", _lines([head, [*rows[0], "1"], *rows[1:]])
    yield "row too short", _lines([head, rows[0][:-1], *rows[1:]])


def _lines(rows: list[list[str]]) -> Change:
    def write(path: Path) -> None:
        lines = StringIO(newline="")
        csv.writer(lines).writerows([cell.replace("\0", NUL) for cell in row] for row in rows)
        path.write_bytes(lines.getvalue().replace(NUL, "\0").encode())

    return write
