"""Samples: which picture is of which class, of which group and split, from CSV files and folders."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xface.errors import XFaceError
from xface.files import MOST_TABLE, check_file, is_file, is_folder, reading
from xface.images import find_pictures

CLASSES = ("fake", "real")
"""The classes in the order of the network's outputs; the first is the positive one."""

MANIFEST = "manifest.csv"
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
NAMED = 3  # so many files are named in a note, the rest counted

Source: TypeAlias = "str | os.PathLike[str]"


class DataError(XFaceError):
    """Samples that cannot be read, or not be divided as asked."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Pictures and what is known of them, a row each.

    `table` has the text columns path (absolute), label (the class), group (what is not independent, "" where
    unknown), pair (path of the counterpart, "" where unknown), split ("" where unknown) and source (the name
    of the data set), and those that the file had besides, as text. `notes` say what reading left out.

    Example:
        >>> both = Samples(pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "label": ["real", "fake"]}))
        >>> len(both), both.counts(), both.label_indices().tolist()
        (2, {'fake': 1, 'real': 1}, [1, 0])
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for column in ("path", "label"):
            if column not in self.table:
                raise DataError(f"samples need a column {column!r}; these have {_columns(self.table)}")
        blank = {name: "" for name in COLUMNS if name not in self.table}
        object.__setattr__(self, "table", self.table.reset_index(drop=True).assign(**blank))

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> list[str]:
        """The values of a column; DataError if there is none of that name."""
        if name not in self.table:
            raise DataError(f"the samples have no column {name!r}; they have {_columns(self.table)}")
        return [str(value) for value in self.table[name]]

    @property
    def paths(self) -> list[str]:
        """The absolute path of each sample."""
        return self.column("path")

    @property
    def labels(self) -> list[str]:
        """The class of each sample."""
        return self.column("label")

    def counts(self) -> dict[str, int]:
        """The number of samples of each class, by name."""
        return {str(name): int(n) for name, n in self.table["label"].value_counts().sort_index().items()}

    def label_indices(self, classes: Sequence[str] = CLASSES) -> NDArray[np.int64]:
        """The place of each sample's class among `classes`, (N,); DataError for a class that isn't there."""
        if strange := [name for name in self.counts() if name not in classes]:
            row = self.labels.index(strange[0])
            raise DataError(
                f"{self.paths[row]!r} has the label {strange[0]!r}, which is none of the classes "
                f"{', '.join(classes)}; name all classes, or leave such samples out"
            )
        return np.array([classes.index(label) for label in self.labels], np.int64)

    def select(self, rows: NDArray[Any] | Sequence[int]) -> Samples:
        """The samples at some positions, in that order, or where a mask (N,) is true; notes stay behind."""
        chosen = np.asarray(rows)
        positions = chosen.nonzero()[0] if chosen.dtype == bool else chosen.astype(np.int64)
        return Samples(self.table.iloc[positions])

    def of_split(self, name: str) -> Samples:
        """The samples that the manifest itself puts into a split; DataError if there are none."""
        mask = np.array([split == name for split in self.column("split")])
        if not mask.any():
            known = ", ".join(sorted({split for split in self.column("split") if split})) or "none"
            raise DataError(f"no sample is of the split {name!r}; the splits are: {known}")
        return self.select(mask)


def read_samples(source: Source | Sequence[Source], keep_missing: bool = False) -> Samples:
    """Read a CSV, a folder, or several of these together.

    A CSV has a header with `path` (relative paths start at the CSV's folder) and `label` (class names; FAKE
    and Real are taken as fake and real), or `real` (1 or true: a real face, 0 or false: a fake one), or
    `fake` (the reverse). Its columns `group`, `pair`, `split` have a meaning (see `Samples`); others are
    kept. A folder has a `manifest.csv`, or pictures in and below folders called `real` and `fake`, in any
    case, at any depth; a folder `train`, `val` or `test` above or below them gives the split.

    Missing files and repeated ones are left out, and `notes` say how many and which; `keep_missing` keeps the
    rows of files that are missing, for who accounts for each row. Several sources get `source`, the name of
    their folder, and their groups that name before them.

    Raises:
        DataError: a file cannot be read, lacks a column, or has a label that says nothing, with its line; a
            file has two labels; nothing is left.

    Example:
        >>> read_samples("nowhere.csv")
        Traceback (most recent call last):
        xface.data.samples.DataError: cannot read 'nowhere.csv': there is no such file or folder; ...
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_one(Path(source), keep_missing)
    if not source:
        raise DataError("no data is named; give a CSV or a folder with real/ and fake/")
    return join([_read_one(Path(one), keep_missing) for one in source])


def join(parts: Sequence[Samples]) -> Samples:
    """Several samples as one; a path in two of them counts once, and its groups are named after the source.

    Raises:
        DataError: a file has two labels.
    """
    if len(parts) == 1:
        return parts[0]
    tables = [part.table.assign(group=_qualified(part)) for part in parts]
    notes = tuple(note for part in parts for note in part.notes)
    table, repeated = _without_repeats(pd.concat(tables, ignore_index=True).fillna(""), "the sources")
    return Samples(table, (*notes, *repeated))


def apart(samples: Samples, others: Samples, where: str) -> Samples:
    """The samples of `where` whose files aren't among the others too; a note says how many were.

    Raises:
        DataError: a file has another label there.
    """
    labels = dict(zip(others.paths, others.labels, strict=True))
    for path, label in zip(samples.paths, samples.labels, strict=True):
        if labels.get(path, label) != label:
            raise DataError(f"'{path}' is {label} in '{where}', but {labels[path]} elsewhere; correct one")
    known = np.array([path in labels for path in samples.paths], bool)
    named = [f"'{path}'" for path in samples.table["path"][known]]
    notes = _note(f"files of '{where}' are in the other data too and are left out of it", named)
    return Samples(samples.table[~known], (*samples.notes, *notes))


def _qualified(part: Samples) -> list[str]:
    named = zip(part.column("group"), part.column("source"), strict=True)
    return [f"{source}:{group}" if group else "" for group, source in named]


def _read_one(path: Path, keep_missing: bool) -> Samples:
    with reading(path, DataError):
        if not is_folder(path, DataError):
            return _read_csv(path, keep_missing)
        manifest = path / MANIFEST
        found = is_file(manifest, DataError)
        return _read_csv(manifest, keep_missing) if found else _read_folder(path)


def _read_csv(path: Path, keep_missing: bool) -> Samples:
    table = _parsed(path)
    table.columns = pd.Index([_column_name(str(name)) for name in table.columns])
    if twice := sorted({str(name) for name in table.columns[table.columns.duplicated()]} - {""}):
        raise DataError(f"'{path}' has the column {twice[0]!r} twice; keep one of them")
    if "path" not in table:
        remedy = (
            "separate columns by commas"
            if len(table.columns) == 1
            else "the first line must name the columns"
        )
        raise DataError(f"'{path}' has no column 'path', only {_columns(table)}; {remedy}")
    table["label"] = _labels(table, path)
    folder = path.absolute().parent
    for column in {"path", "pair"} & set(table):
        table[column] = [os.path.normpath(folder / name) if name else "" for name in table[column]]
    if "split" in table:
        table["split"] = [SPLITS.get(name.lower(), name) for name in table["split"]]
    return _checked(table, path, folder.name, keep_missing)


def _parsed(path: Path) -> pd.DataFrame:
    """All as text; the index is each row's line in the file, counted from 1."""
    rows: dict[int, list[str]] = {}
    check_file(path, DataError, MOST_TABLE)
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, skipinitialspace=True, strict=True)
            for cells in reader:
                if any(map(str.strip, cells)):
                    rows[reader.line_num] = [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read '{path}' as CSV: {error}; save it as UTF-8 with commas") from error
    if len(rows) < 2:
        raise DataError(
            f"'{path}' names no picture; under a line with the columns, path and label, comes one each"
        )
    lines_read, (header, *body) = list(rows), rows.values()
    for line, cells in zip(lines_read[1:], body, strict=True):
        if len(cells) != len(header):
            raise DataError(
                f"'{path}', line {line}: {len(cells)} cells under {len(header)} columns; put text with "
                "commas in double quotes"
            )
    return pd.DataFrame(body, index=lines_read[1:], columns=header, dtype=object)


def _column_name(name: str) -> str:
    plain = name.strip()
    return plain.lower() if plain.lower() in {*COLUMNS, *FLAGS} else plain


def _columns(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))


def _labels(table: pd.DataFrame, path: Path) -> list[str]:
    columns = [name for name in ("label", *FLAGS) if name in table]
    if not columns:
        raise DataError(
            f"'{path}' has no column 'label' or 'real', only {_columns(table)}; add one for the class"
        )
    read = {name: _class_names(table, name, path) for name in columns}
    first, *others = columns
    for name in others:
        for line, one, two in zip(table.index, read[first], read[name], strict=True):
            if (one == "real") != (two == "real"):
                raise DataError(f"'{path}', line {line}: {first} says {one}, but {name} {two}; mend one")
    return read[first]


def _class_names(table: pd.DataFrame, column: str, path: Path) -> list[str]:
    read = _class_name if column == "label" else FLAGS[column]
    return [
        _label(read, str(value), column, f"'{path}', line {line}") for line, value in table[column].items()
    ]


def _class_name(value: str) -> str | None:
    if not value or value.lower() in BOOLEANS:
        return None
    return value.lower() if value.lower() in CLASSES else value


def _label(read: Any, value: str, column: str, where: str) -> str:
    flags = isinstance(read, Mapping)
    found = read.get(BOOLEANS.get(value.lower())) if flags else read(value)
    if found:
        return str(found)
    remedy = (
        "write 0 or 1"
        if flags
        else "write a class name, fake or real, or call the column 'real' if 1 means real"
    )
    raise DataError(f"{where}: {column} {value!r} doesn't say which class it is; {remedy}")


def _read_folder(folder: Path) -> Samples:
    found = [path for path in find_pictures([folder]) if path != folder]
    rows = [row for path in found if (row := _from_place(path, folder))]
    if not rows:
        raise DataError(
            f"'{folder}' has no {MANIFEST}, and no pictures in folders called real and fake; "
            "give a CSV with path and label, or sort the pictures into such folders"
        )
    outside = [f"'{path}'" for path in found if _from_place(path, folder) is None]
    notes = _note(f"pictures in '{folder}' are neither below real nor fake and are left out", outside)
    samples = _checked(pd.DataFrame(rows), folder, folder.absolute().name)
    return Samples(samples.table, (*notes, *samples.notes))


def _from_place(path: Path, folder: Path) -> dict[str, str] | None:
    """Label and split of a picture by the folders between it and `folder`; None without a label."""
    between = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    labels = {part for part in between if part in CLASSES}
    if len(labels) > 1:
        raise DataError(f"'{path}' is below a folder real and a folder fake; move it to where it belongs")
    split = next((SPLITS[part] for part in between if part in SPLITS), "")
    return {"path": os.path.abspath(path), "label": labels.pop(), "split": split} if labels else None


def _checked(table: pd.DataFrame, path: Path, source: str, keep_missing: bool = False) -> Samples:
    if "source" not in table:
        table = table.assign(source=source)
    present = np.array([bool(name) and os.path.isfile(name) for name in table["path"]], bool)
    if not present.any():
        first = f" (the first is '{table['path'].iloc[0]}')" if len(table) else ""
        raise DataError(
            f"none of the {len(table)} files that '{path}' names is there{first}; "
            "relative paths start at its folder"
        )
    if keep_missing:
        present[:] = True
    lost = table["path"][~present]
    missing = _note(
        f"files that '{path}' names are missing", [f"line {n}: '{name}'" for n, name in lost.items()]
    )
    kept, repeated = _without_repeats(table[present], f"'{path}'")
    return Samples(kept, (*missing, *repeated))


def _without_repeats(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    again = table["path"].duplicated()
    if not again.any():
        return table, ()
    labels = table.groupby("path")["label"].nunique()
    if (labels > 1).any():
        raise DataError(f"'{labels.idxmax()}' has two labels in {where}; keep the right one")
    named = [f"'{name}'" for name in table["path"][again]]
    return table[~again], _note(f"rows of {where} repeat a file and are left out", named)


def _note(what: str, named: Sequence[str]) -> tuple[str, ...]:
    more = ", ..." if len(named) > NAMED else ""
    return (f"{len(named)} {what}: {', '.join(named[:NAMED])}{more}",) if named else ()
