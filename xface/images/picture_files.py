"""Picture files: those that files, folders and globs stand for, and what is left out of these."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from xface.errors import UsageError
from xface.files.kinds import kind_of, read_head
from xface.files.paths import identity
from xface.images.pictures import EXTENSIONS, can_read

UNSEARCHED = "folder that is hidden or a link"
NAMED = 6  # so many endings are named in a note, the rest counted


@dataclass(frozen=True)
class FoundPictures:
    """The picture files in the order of the arguments, and notes on what is left out."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def find_pictures(arguments: Sequence[str | os.PathLike[str]], by_name: bool = False) -> FoundPictures:
    """List the picture files that files, folders and globs stand for, in the order of the arguments.

    What exists is taken literally, even if its name holds `[`, `*` or `?`. A folder gives the files in and
    below it that have an image extension, or the content of a picture that can be read here; a glob (`**`
    allowed) gives those that match; both in natural order, without hidden files and linked folders. Notes say
    how many other files there are, and of which kinds. A file that a folder or a glob has under several names
    (links) is listed once, or `by_name` under each; an argument that is named twice is listed twice. One that
    gives nothing stays in the list, so that `read_picture` explains it and it costs only itself.

    Raises:
        UsageError: an argument is empty.

    Example:
        >>> find_pictures(["nowhere.jpg"]).paths
        (PosixPath('nowhere.jpg'),)
    """
    if "" in arguments:
        raise UsageError("an image argument is empty; give a file, a folder or a glob")
    searches = [_Search.of(Path(argument)) for argument in arguments]
    if not by_name:
        for search in searches:
            search.leave_out_repeats()
    paths = [path for search in searches for path in search.paths]
    return FoundPictures(tuple(paths), tuple(note for search in searches for note in search.notes()))


@dataclass
class _Search:
    """What was found for one argument: pictures, and by kind and ending how many others."""

    argument: Path
    found: list[Path] = field(default_factory=list)
    by_content: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, argument: Path) -> _Search:
        search = cls(argument)
        if os.path.isdir(argument):
            search._look_below(argument)
        elif os.path.lexists(argument) or "\0" in str(argument):
            search.found = [argument]
        else:
            search._look_for(argument)
        return search

    @property
    def paths(self) -> list[Path]:
        return sorted(self.found, key=natural_order) or [self.argument]

    def leave_out_repeats(self) -> None:
        """Keep the first name of each file."""
        files = {path: identity(path) for path in self.found}
        if len(set(files.values())) == len(self.found):
            return
        first: dict[Hashable, Path] = {}
        for path in sorted(files, key=natural_order):
            if first.setdefault(files[path], path) != path:
                self._leave_out("another name of a file that is there", path.suffix.lower())
        self.found = list(first.values())

    def notes(self) -> Iterator[str]:
        if self.by_content:
            yield f"read as pictures by their content, in '{self.argument}': {_counted(self.by_content)}"
        if self.left_out:
            kinds = (f"{_counted(endings)} ({what})" for what, endings in self.left_out.items())
            yield f"left out of '{self.argument}': {'; '.join(kinds)}"

    def _look_below(self, folder: Path) -> None:
        for parent, folders, files in os.walk(folder, onerror=self._unreadable):
            for name in [name for name in folders if name.startswith(".") or _is_link(parent, name)]:
                folders.remove(name)
                self._leave_out(UNSEARCHED, name)
            for name in files:
                self._take(Path(parent, name))

    def _look_for(self, pattern: Path) -> None:
        # the part that exists is literal: in "set[1]/*.jpg" only the star is a wildcard
        base = next(parent for parent in pattern.parents if os.path.lexists(parent))
        wanted = str(pattern.relative_to(base))
        linked, link_on = set(), cache(partial(_first_link, base))
        for match in glob.glob(wanted, root_dir=base, recursive=True):
            is_folder = os.path.isdir(base / match)
            if "**" in wanted and (link := link_on(match if is_folder else os.path.dirname(match))):
                linked.add(link)  # once, though `**` follows a circle of them forty times
            elif not is_folder:
                self._take(base / match)
            elif "**" not in wanted:
                self._leave_out("folder: a glob takes none", match)
        for link in linked:
            self._leave_out(UNSEARCHED, os.path.basename(link))

    def _take(self, path: Path) -> None:
        ending = path.suffix.lower()
        if path.name.startswith("."):
            if ending in EXTENSIONS:
                self._leave_out("hidden", ending)
        elif not os.path.isfile(path):
            self._leave_out("broken link, device or pipe", ending)
        elif ending in EXTENSIONS:
            self.found.append(path)
        else:
            self._take_by_content(path, ending)

    def _take_by_content(self, path: Path, ending: str) -> None:
        head = read_head(path)
        kind = kind_of(head, ending)
        if kind.format and kind_of(head) is kind and can_read(kind):
            self.found.append(path)
            self.by_content[ending] += 1
        else:
            self._leave_out(": ".join(filter(None, (kind.name, kind.remedy))), ending)

    def _leave_out(self, what: str, ending: str) -> None:
        self.left_out.setdefault(what, Counter())[ending] += 1

    def _unreadable(self, error: OSError) -> None:
        self._leave_out("folder that cannot be read", os.path.basename(str(error.filename)))


def _is_link(parent: str, name: str) -> bool:
    return os.path.islink(os.path.join(parent, name))


def _first_link(base: Path, folder: str) -> str:
    """The first linked folder on the way from `base` to one below, or that itself; "" if there is none."""
    way = [*reversed(Path(folder).parents), Path(folder)]
    return next((str(place) for place in way[1:] if _is_link(str(base), str(place))), "")


def _counted(endings: Counter[str]) -> str:
    named = [f"{n:,} {ending or 'without an ending'}" for ending, n in endings.most_common(NAMED)]
    more = len(endings) - len(named)
    return ", ".join(named) + (f" and {more:,} more kinds" if more else "")


def natural_order(path: str | Path) -> tuple[list[str | int], str]:
    """Sort key that puts `face2` before `face10`."""
    parts = re.split(r"(\d+)", str(path), flags=re.ASCII)
    return [int(part) if part.isdecimal() else part.lower() for part in parts], str(path)
