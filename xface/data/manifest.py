"""Manifests: CSV files that say which picture is of which class, group and split."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import pandas as pd

from xface.data.labels import DIGITS, Vocabulary
from xface.data.listing import Listing
from xface.errors import DataError
from xface.files.csv_files import BLANKS, read_rows, unescaped
from xface.files.paths import MOST_TABLE, check_file
from xface.files.written_paths import WrittenPaths, local_parts

COLUMNS = ("path", "label", "group", "pair", "split", "source")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
FLAGS = {"real": {"1": "real", "0": "fake"}, "fake": {"1": "fake", "0": "real"}}
"""Columns of 0 and 1 that may stand in for `label`: real = 1 means a real face, fake = 1 a fake one."""
BOOLEANS = {"1": "1", "1.0": "1", "true": "1", "0": "0", "0.0": "0", "false": "0"}
PATHS = ("path", "pair")


def read_manifest(path: Path, labels: Vocabulary) -> Listing:
    """What a CSV lists, its paths absolute and its labels classes.

    Raises:
        DataError: it cannot be read, lacks a column, or has labels that mean no class.
    """
    table, notes = _parsed(path)
    table.columns = pd.Index(_column_names(list(table.columns)))
    if twice := sorted({str(name) for name in table.columns[table.columns.duplicated()]}):
        raise DataError(f"'{path}' has the column {twice[0]!r} twice; keep one of them")
    if "path" not in table:
        remedy = (
            "separate columns by commas"
            if len(table.columns) == 1
            else "the first line must name the columns"
        )
        raise DataError(f"'{path}' has no column 'path', only {_listed(table)}; {remedy}")
    folder = path.absolute().parent
    paths = WrittenPaths.of(folder, table["path"])
    plain = table.assign(**{str(name): list(map(_plain, cells)) for name, cells in table.items()})
    names, said = _labels(plain, path, labels)
    found = {name: [paths.find(cell) for cell in table[name]] for name in PATHS if name in table}
    if "split" in table:
        found["split"] = [SPLITS.get(name.strip().lower(), name) for name in plain["split"]]
    # as objects: a text column of pandas holds no name that isn't UTF-8, as the folder's may be
    columns = {name: pd.Series(cells, plain.index, object) for name, cells in found.items()}
    notes = (*notes, *said, *_root_note(paths, path))
    return Listing(plain.assign(label=names, **columns), notes, path)


def _plain(cell: str) -> str:
    return unescaped(cell.strip(BLANKS))


def _parsed(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All as text; the index is each row's line in the file, counted from 1."""
    check_file(path, DataError, MOST_TABLE)
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            rows = read_rows(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read '{path}' as CSV: {error}; save it as UTF-8 with commas") from error
    if len(rows) < 2:
        raise DataError(
            f"'{path}' lists no picture; below the header `path,label`, give one picture per line"
        )
    lines_read, (header, *body) = list(rows), rows.values()
    for line, cells in zip(lines_read[1:], body, strict=True):
        if len(cells) > len(header):
            raise DataError(
                f"'{path}', line {line}: {len(cells)} cells under {len(header)} columns; put text with "
                "commas in double quotes"
            )
    short = [line for line, cells in zip(lines_read[1:], body, strict=True) if len(cells) < len(header)]
    said = (
        f"rows of '{path}' have fewer cells than there are columns, the missing ones are read as empty: line"
    )
    full = [[*cells, *[""] * (len(header) - len(cells))] for cells in body]
    notes = (f"{len(short)} {said} {short[0]}{', ...' if len(short) > 1 else ''}",) if short else ()
    table = pd.DataFrame(full, index=lines_read[1:], columns=header, dtype=object)
    empty = [not str(name).strip() and not any(cells.str.strip()) for name, cells in table.items()]
    return table.loc[:, [not one for one in empty]], notes


def _column_names(written: Sequence[str]) -> list[str]:
    """The columns' names; of several without one, all but the first are called by their place."""
    names = [unescaped(name.strip()) for name in written]
    known = {*COLUMNS, *FLAGS}
    names = [name.lower() if name.lower() in known else name for name in names]
    first = names.index("") if "" in names else -1
    return [name or ("" if place == first else f"column {place + 1}") for place, name in enumerate(names)]


def _listed(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))


def _labels(table: pd.DataFrame, path: Path, words: Vocabulary) -> tuple[list[str], tuple[str, ...]]:
    columns = [name for name in ("label", *FLAGS) if name in table]
    if not columns:
        raise DataError(
            f"'{path}' has no column 'label' or 'real', only {_listed(table)}; add one for the class"
        )
    flags = {name: _flags(table, name, path) for name in columns if name in FLAGS}
    if "label" in table:
        read, notes = words.read(list(table["label"]), f"'{path}'", list(table.index))
        _check_digits(table, read, path, words)
    else:
        read, notes = words.read(flags[columns[0]], f"'{path}'", list(table.index))
    real = words.class_of("real")
    for name, declared in flags.items():
        for line, label, flag in zip(table.index, read, declared, strict=True):
            if (label == real) != (flag == "real"):
                first = columns[0] if columns[0] != name else columns[1]
                raise DataError(f"'{path}', line {line}: {first} says {label}, but {name} {flag}; mend one")
    return read, notes if "label" in table else ()


def _flags(table: pd.DataFrame, column: str, path: Path) -> list[str]:
    """What a column of 0 and 1 says of each row: `real` or `fake`."""
    declared = [FLAGS[column].get(BOOLEANS.get(cell.strip().lower(), ""), "") for cell in table[column]]
    if strange := [place for place, flag in enumerate(declared) if not flag]:
        cells, lines = list(table[column]), list(table.index)
        named = ", ".join(f"line {lines[place]}: {cells[place]!r}" for place in strange[:3])
        raise DataError(
            f"'{path}': {len(strange):,} cells of the column {column} don't say which class it is "
            f"({named}{', ...' if len(strange) > 3 else ''}); write 0 or 1"
        )
    return declared


def _check_digits(table: pd.DataFrame, classes: Sequence[str], path: Path, words: Vocabulary) -> None:
    """Raise DataError where folders, or another column, say the reverse of the labels 1 and 0."""
    rows = [place for place, cell in enumerate(table["label"]) if cell in DIGITS and not words.is_class(cell)]
    if not rows:
        return
    digits, read = table.iloc[rows], [classes[place] for place in rows]
    declared_by = {"folders": [_class_of_folders(cell, words) for cell in digits["path"]]}
    for name in [name for name in table if name not in {"path", "label", "pair", "split", *FLAGS}]:
        declared_by[f"column {name!r}"] = [words.class_of_folder(cell) for cell in digits[name]]
    for what, declared in declared_by.items():
        agree = Counter(one == two for one, two in zip(read, declared, strict=True) if two is not None)
        if agree[False] > agree[True]:
            one, zero = words.class_of("1"), words.class_of("0")
            raise DataError(
                f"'{path}' has labels 0 and 1, usually {zero} and {one}, but its {what} say the reverse for "
                f"{agree[False]:,} files; say which it is: --label 1={zero} --label 0={one}, or the other "
                "way round (in a training config data.labels)"
            )


def _class_of_folders(path: str, words: Vocabulary) -> str | None:
    classes = filter(None, map(words.class_of_folder, local_parts(path)[:-1]))
    return next(classes, None)


def _root_note(paths: WrittenPaths, path: Path) -> tuple[str, ...]:
    if not paths.root:
        return ()
    root = PureWindowsPath(*paths.root)
    return (f"'{path}' names files of another machine: those below '{root}' are looked for in its folder",)
