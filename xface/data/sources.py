"""Sources of labelled pictures: what may be named as data, such as a folder or a CSV file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xface.data.folders import read_folder
from xface.data.labels import Vocabulary
from xface.data.listing import Listing
from xface.data.manifest import read_manifest
from xface.errors import DataError
from xface.files.paths import is_file, is_folder
from xface.registry import Registry

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class PictureSource:
    """A kind of source: whether it `takes` an argument, as it was written, and how it is read.

    `read` raises DataError for what cannot be read. Of the labels in its listing, those that are classes of
    the vocabulary stand; if there are others, all are read by it. Relative paths start at the folder of the
    listing's file, else at the argument if that is a folder, else at its folder. `of_files` is for arguments
    that where no labels are needed are found as files.
    """

    takes: Callable[[str], bool]
    read: Callable[[str, Vocabulary], Listing]
    of_files: bool = False


SOURCES = Registry[PictureSource]("source of pictures")
"""The one that was added last is asked first; a CSV file is what nothing else takes."""


def source_of(argument: str) -> PictureSource:
    """The source that an argument belongs to.

    Example:
        >>> source_of("nowhere.csv") is SOURCES["csv"], source_of(".") is SOURCES["folder"]
        (True, True)
    """
    return next(source for source in reversed(list(SOURCES.values())) if source.takes(argument))


def _has_manifest(folder: Path) -> bool:
    return is_folder(folder, DataError) and is_file(folder / MANIFEST, DataError)


def _is_unlisted_folder(argument: str) -> bool:
    return is_folder(Path(argument), DataError) and not _has_manifest(Path(argument))


def _read_csv(argument: str, labels: Vocabulary) -> Listing:
    path = Path(argument)
    return read_manifest(path / MANIFEST if _has_manifest(path) else path, labels)


def _read_folder(argument: str, labels: Vocabulary) -> Listing:
    return read_folder(Path(argument), labels)


SOURCES.add("csv", PictureSource(lambda argument: True, _read_csv, of_files=True))
SOURCES.add("folder", PictureSource(_is_unlisted_folder, _read_folder, of_files=True))
