"""Paths as tables write them: with blanks around them, or as Windows does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath, PureWindowsPath

from xface.files.csv_files import BLANKS, unescaped

TRIED = 100  # so many paths of another machine are looked for here


def is_windows_path(name: str) -> bool:
    """Whether it can be read as a path of Windows where it is none of this machine.

    Example:
        >>> is_windows_path("fake\\\\1.png"), is_windows_path("C:/faces/1.png"), is_windows_path("fake/1.png")
        (True, True, False)
    """
    return os.sep != "\\" and ("\\" in name or name.strip()[1:2] == ":")


def is_foreign(name: str) -> bool:
    """Whether it is an absolute path of Windows on a machine that isn't one."""
    return is_windows_path(name) and PureWindowsPath(name).anchor != ""


def local_parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a path; of one of Windows without its drive.

    Example:
        >>> local_parts("C:\\\\faces\\\\a.png"), local_parts("faces\\\\a.png"), local_parts("/faces/a.png")
        (('faces', 'a.png'), ('faces', 'a.png'), ('/', 'faces', 'a.png'))
    """
    if not is_windows_path(name):
        return PurePath(name).parts
    path = PureWindowsPath(name)
    return path.parts[1:] if path.anchor else path.parts


@dataclass(frozen=True)
class WrittenPaths:
    """Finds the files that a table in `folder` names.

    A name counts as it is written; where there is no such file, without the blanks around it; then, read as a
    path of Windows, below the folder. Absolute paths of Windows are those of another machine: what stands
    for their `root` here is the folder.
    """

    folder: Path
    root: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> WrittenPaths:
        """Find out which root the absolute paths of Windows among the names have, if there are any."""
        foreign = filter(is_foreign, names)
        roots = (_root(folder, name) for name in islice(foreign, TRIED))
        return cls(folder, next(filter(None, roots), ()))

    def find(self, name: str) -> str:
        """The absolute path of a file, there or not; "" for no name."""
        plain = name.strip(BLANKS)
        if not plain:
            return ""
        if name.strip() == name and name[0] != "'" and not is_windows_path(name):
            return self._local(name)
        found = map(self._local, self._readings(name, plain))
        return next(filter(os.path.lexists, found), self._local(plain))

    def _local(self, name: str) -> str:
        return os.path.normpath(os.path.join(self.folder, name))

    def _readings(self, name: str, plain: str) -> list[str]:
        there = list(dict.fromkeys([name, plain, unescaped(plain), plain.strip() or plain]))
        return [*there, *(found for one in there for found in self._from_windows(one))]

    def _from_windows(self, name: str) -> Iterator[str]:
        if not is_windows_path(name):
            return
        path = PureWindowsPath(name)
        if not path.anchor:
            yield path.as_posix()
        elif self.root and _folded(path.parts[: len(self.root)]) == _folded(self.root):
            yield os.path.join(*path.parts[len(self.root) :])


def _root(folder: Path, name: str) -> tuple[str, ...]:
    """The folders of a foreign path that the folder stands for; () if the file isn't found."""
    parts = PureWindowsPath(name.strip()).parts
    starts = range(1, len(parts))
    return next((parts[:start] for start in starts if os.path.isfile(folder.joinpath(*parts[start:]))), ())


def _folded(parts: tuple[str, ...]) -> list[str]:
    return [part.casefold() for part in parts]
