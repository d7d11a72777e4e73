"""A registry: named entries of one kind, in the order in which they were added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name` and return it; a name can be taken only once."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def alias(self, old: str, name: str) -> None:
        """Let an entry be found by an earlier name too, which is not listed."""
        self._aliases[old] = name

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
