"""A registry: named entries of one kind, in the order in which they were added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from xface.errors import UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Named entries of one kind; an unknown name is an error that lists near matches.

    Example:
        >>> colours = Registry[str]("colour")
        >>> colours.add("red", "#f00")
        '#f00'
        >>> list(colours)
        ['red']
        >>> with colours.having("green", "#0f0", before="red"):
        ...     list(colours)
        ['green', 'red']
        >>> list(colours)
        ['red']
        >>> colours["rad"]
        Traceback (most recent call last):
        xface.errors.UnknownNameError: unknown colour 'rad'; did you mean 'red'?
        >>> colours.alias("crimson", "red")
        >>> colours["crimson"], len(colours)
        ('#f00', 1)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def add(self, name: str, entry: T, before: str | None = None) -> T:
        """Register `entry` under `name`, last or in front of the entry `before`, and return it.

        Raises:
            ValueError: the name is taken.
            UnknownNameError: there is no entry `before`.
        """
        if name in self:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        later = dict[str, T]()
        if before is not None:
            self[before]  # an unknown name is an error before anything moves
            names = list(self._entries)
            later = {key: self._entries.pop(key) for key in names[names.index(before) :]}
        self._entries.update({name: entry, **later})
        return entry

    def alias(self, old: str, name: str) -> None:
        """Let an entry be found by an earlier name too, which is not listed."""
        self._aliases[old] = name

    @contextmanager
    def having(self, name: str, entry: T, before: str | None = None) -> Iterator[T]:
        """Register `entry` as `add` does, for the length of a `with` block."""
        self.add(name, entry, before)
        try:
            yield entry
        finally:
            del self._entries[name]

    def __getitem__(self, name: str) -> T:
        name = self._aliases.get(name, name)
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
