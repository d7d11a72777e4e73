"""Samples: which picture is of which class, of which group and split, from CSV files and folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xface.data.labels import CLASSES, Vocabulary
from xface.data.listing import Listing, check_columns
from xface.data.manifest import COLUMNS, PATHS
from xface.data.sources import SOURCES, PictureSource, source_of
from xface.errors import DataError
from xface.files.paths import absolute, as_utf8, identity, reading
from xface.images.picture_files import FoundPictures, find_pictures

NAMED = 3  # so many files are named in a note, the rest counted

Source: TypeAlias = "str | os.PathLike[str]"


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
        check_columns(self.table)
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

    @property
    def sha256(self) -> str:
        """Of the whole table's content."""
        content = self.table.to_csv(index=False).encode("utf-8", "surrogateescape")
        return hashlib.sha256(content).hexdigest()

    def counts(self) -> dict[str, int]:
        """The number of samples of each class, by name."""
        return {str(name): int(n) for name, n in self.table["label"].value_counts().sort_index().items()}

    def label_indices(self, classes: Sequence[str] = CLASSES) -> NDArray[np.int64]:
        """The place of each sample's class among `classes`, (N,); DataError for a class that isn't there."""
        if strange := {name: count for name, count in self.counts().items() if name not in classes}:
            named = ", ".join(f"{name!r} ({count:,})" for name, count in strange.items())
            raise DataError(
                f"samples have labels that are none of the classes {', '.join(classes)}: {named}; name all "
                "classes, or leave such samples out"
            )
        return np.array([classes.index(label) for label in self.labels], np.int64)

    def read_as(self, labels: Vocabulary) -> Samples:
        """The samples with their labels as classes of a vocabulary; DataError for those that mean none."""
        names, notes = labels.read(self.labels, "the data")
        return Samples(self.table.assign(label=names), (*self.notes, *notes))

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


def read_samples(
    source: Source | Sequence[Source], keep_missing: bool = False, labels: Vocabulary | None = None
) -> Samples:
    """Read a CSV, a folder, or several of these together.

    A CSV has a header with `path` (relative paths start at the CSV's folder) and `label` (see `Vocabulary`),
    or `real` (1 or true: a real face, 0 or false: a fake one), or `fake` (the reverse). Its columns `group`,
    `pair`, `split` have a meaning (see `Samples`); others are kept. A folder has a `manifest.csv`, or
    pictures in and below folders that classes are called by, at any depth; a folder `train`, `val` or `test`
    above or below them gives the split.

    Missing files and repeated ones, also by links, are left out, and `notes` say how many and which;
    `keep_missing` keeps the rows of files that are missing, for who accounts for each row. Several sources
    get `source`, the name of their folder, and their groups that name before them. `labels` say which class
    each label means; by default they are fake, real and their common spellings. Notes say what was spelled
    otherwise.

    Raises:
        DataError: a file cannot be read, lacks a column, or has labels that mean no class, with their counts;
            a file has two labels; nothing is left.

    Example:
        >>> read_samples("nowhere.csv")
        Traceback (most recent call last):
        xface.errors.DataError: cannot read 'nowhere.csv': there is no such file or folder; ...
    """
    words = labels or Vocabulary()
    if isinstance(source, (str, os.PathLike)):
        return _read_one(os.fspath(source), keep_missing, words)
    if not source:
        raise DataError("no data is named; give a CSV or a folder with real/ and fake/")
    return join([_read_one(os.fspath(one), keep_missing, words) for one in source])


def find_listed(arguments: Sequence[str]) -> FoundPictures:
    """As `find_pictures`, also of what sources take that aren't of files; labels play no part.

    Raises:
        UsageError: an argument is empty. DataError: a source cannot be read.

    Example:
        >>> find_listed(["nowhere.jpg"]).paths
        (PosixPath('nowhere.jpg'),)
    """
    found = [_find_one(argument) for argument in arguments]
    paths = chain.from_iterable(one.paths for one in found)
    return FoundPictures(tuple(paths), tuple(note for one in found for note in one.notes))


def _find_one(argument: str) -> FoundPictures:
    others = [source for source in reversed(list(SOURCES.values())) if not source.of_files]
    source = next((source for source in others if source.takes(argument)), None)
    if source is None:
        return find_pictures([argument])
    with reading(argument, DataError):
        listing, _ = _listed(source, argument, Vocabulary())
    return FoundPictures(tuple(map(Path, listing.table["path"])) or (Path(argument),), listing.notes)


def join(parts: Sequence[Samples]) -> Samples:
    """Several samples as one; a file in two of them counts once, and its groups are named after the source.

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
    labels = dict(zip(map(identity, others.paths), others.labels, strict=True))
    files = list(map(identity, samples.paths))
    for file, path, label in zip(files, samples.paths, samples.labels, strict=True):
        if labels.get(file, label) != label:
            raise DataError(f"'{path}' is {label} in '{where}', but {labels[file]} elsewhere; correct one")
    known = np.array([file in labels for file in files], bool)
    named = [f"'{path}'" for path in samples.table["path"][known]]
    notes = _note(f"files of '{where}' are in the other data too and are left out of it", named)
    return Samples(samples.table[~known], (*samples.notes, *notes))


def _qualified(part: Samples) -> list[str]:
    named = zip(part.column("group"), part.column("source"), strict=True)
    return [f"{source}:{group}" if group else "" for group, source in named]


def _columns(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))


def _read_one(argument: str, keep_missing: bool, labels: Vocabulary) -> Samples:
    path = Path(argument)
    with reading(path, DataError):
        found, folder = _listed(source_of(argument), argument, labels)
        table, respelled = _with_classes(found.table, labels, f"'{path}'")
        if "source" not in table:
            table = table.assign(source=as_utf8(folder.name))
        table, lost = _with_files(replace(found, table=table), path, keep_missing)
        kept, repeated = _without_repeats(table, f"'{found.file or path}'")
        return Samples(kept, (*lost, *repeated, *respelled, *found.notes))


def _listed(source: PictureSource, argument: str, labels: Vocabulary) -> tuple[Listing, Path]:
    """What a source lists, its paths made absolute, and the place that it is named after."""
    place = absolute(argument, DataError)
    found = source.read(argument, labels)
    folder = found.file.absolute().parent if found.file else place
    table = _with_absolute_paths(found.table, folder if os.path.isdir(folder) else folder.parent)
    return replace(found, table=table), folder


def _with_classes(
    table: pd.DataFrame, labels: Vocabulary, where: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if set(table["label"]) <= set(labels.classes):
        return table, ()
    names, notes = labels.read(list(table["label"]), where)
    return table.assign(label=names), notes


def _with_absolute_paths(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    columns = [name for name in PATHS if name in table and not all(map(_is_absolute, table[name]))]
    found = {name: [path and os.path.join(folder, path) for path in table[name]] for name in columns}
    return table.assign(**{name: pd.Series(paths, table.index, object) for name, paths in found.items()})


def _is_absolute(path: str) -> bool:
    return not path or os.path.isabs(path)


def _with_files(found: Listing, path: Path, keep_missing: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows whose files are there, or all, and a note on the others; DataError if no file is there."""
    table, where = found.table, found.file or path
    present = np.array([bool(name) and os.path.isfile(name) for name in table["path"]], bool)
    if not present.any():
        first = f" (the first is '{table['path'].iloc[0]}')" if len(table) else ""
        raise DataError(
            f"none of the {len(table)} files that '{where}' names is there{first}; "
            "relative paths start at its folder"
        )
    if keep_missing:
        return table, ()
    lost = table["path"][~present].items()
    named = [f"line {line}: '{name}'" if found.file else f"'{name}'" for line, name in lost]
    return table[present], _note(f"files that '{where}' names are missing", named)


def _without_repeats(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The first row of each file, under whatever names (links) it is there; pairs are called as it."""
    files, first = list(map(identity, table["path"])), dict[Hashable, tuple[str, str]]()
    for file, row in zip(files, zip(table["path"], table["label"], strict=True), strict=True):
        path, label = first.setdefault(file, row)
        if label != row[1]:
            also = f", there also called '{row[0]}'," if row[0] != path else ""
            raise DataError(f"'{path}'{also} has two labels in {where}; keep the right one")
    if len(first) == len(table):
        return table, ()
    kept = dict(zip(table["path"], (first[file][0] for file in files), strict=True))
    again = pd.Series(files, table.index).duplicated()
    named = [
        f"'{path}'{f' (which is {kept[path]!r})' if kept[path] != path else ''}"
        for path in table["path"][again]
    ]
    if "pair" in table:
        pairs = [kept.get(path, path) for path in table["pair"]]
        table = table.assign(pair=pd.Series(pairs, table.index, object))
    return table[~again], _note(f"rows of {where} repeat a file and are left out", named)


def _note(what: str, named: Sequence[str]) -> tuple[str, ...]:
    more = ", ..." if len(named) > NAMED else ""
    return (f"{len(named)} {what}: {', '.join(named[:NAMED])}{more}",) if named else ()
