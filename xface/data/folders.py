"""Folders of pictures whose names say the class, such as real/ and fake/."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from xface.data.labels import Vocabulary
from xface.data.listing import Listing
from xface.data.manifest import SPLITS
from xface.errors import DataError
from xface.images.picture_files import find_pictures

NAMED = 5  # so many folders are named in a note


def read_folder(folder: Path, labels: Vocabulary) -> Listing:
    """The pictures below folders that a class is called by, and notes on what was left out.

    A folder called by a class goes before one by a common spelling of it.

    Raises:
        DataError: there is no such picture; or one is below folders of two classes.
    """
    found = find_pictures([folder], by_name=True)
    placed = {path: _class_names(path, folder, labels) for path in found.paths if path != folder}
    rows = [_row(path, folder, names[0]) for path, names in placed.items() if names]
    if not rows:
        raise DataError(
            f"'{folder}' has no manifest.csv, and no pictures in folders called {_either(labels, 'and')}; "
            "give a CSV with path and label, sort the pictures into such folders, or say what other folders "
            "mean: --label NAME=CLASS"
        )
    outside = [path for path, names in placed.items() if not names]
    table = pd.DataFrame(rows, dtype=object)  # a text column of pandas holds no name that isn't UTF-8
    respelled = [name for names in placed.values() for name in names[1:]]
    parts = {part for path in placed for part in path.relative_to(folder).parts[:-1]}
    notes = (*_outside_note(outside, folder, labels), *found.notes, *_spelling_note(respelled, folder))
    return Listing(table, (*notes, *labels.unused(parts, f"'{folder}'")))


def _class_names(path: Path, folder: Path, labels: Vocabulary) -> tuple[str, ...]:
    """The class by the folders between a picture and `folder`, and how it is spelled there if otherwise."""
    between = path.relative_to(folder).parts[:-1]
    named = [part for part in between if labels.is_class(part)]
    parts = named or [part for part in between if labels.class_of_folder(part)]
    classes = list(dict.fromkeys(filter(None, map(labels.class_of_folder, parts))))
    if len(classes) > 1:
        raise DataError(
            f"'{path}' is below a folder {classes[0]} and a folder {classes[1]}; move it to where it belongs"
        )
    return tuple(classes) + tuple(f"{parts[0]!r} {name}" for name in classes if name not in parts)


def _row(path: Path, folder: Path, label: str) -> dict[str, str]:
    between = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    split = next((SPLITS[part] for part in between if part in SPLITS), "")
    return {"path": os.path.abspath(path), "label": label, "split": split}


def _outside_note(outside: Sequence[Path], folder: Path, labels: Vocabulary) -> Iterator[str]:
    if outside:
        places = Counter(str(path.relative_to(folder).parent) for path in outside)
        named = ", ".join(f"'{place}' ({count:,})" for place, count in places.most_common(NAMED))
        more = f" and {len(places) - NAMED:,} more folders" if len(places) > NAMED else ""
        yield (
            f"{len(outside)} pictures in '{folder}' are in no folder called {_either(labels, 'or')} and are "
            f"left out: those in {named}{more}; --label NAME=CLASS says what a folder means"
        )


def _either(labels: Vocabulary, word: str) -> str:
    *first, last = labels.classes
    return f"{', '.join(first)} {word} {last}"


def _spelling_note(respelled: Sequence[str], folder: Path) -> Iterator[str]:
    if respelled:
        named = ", ".join(f"{spelled} ({count:,})" for spelled, count in Counter(respelled).most_common())
        yield f"folders of '{folder}' are read as: {named}"
