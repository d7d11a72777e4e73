"""Groups: which pictures are not independent, by their table's groups and pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def groups(paths: Sequence[str], own: Sequence[str], pairs: Sequence[str]) -> list[str]:
    """The group of each picture: its own, else one that its pairs name, else they make one; "" for none.

    All that are made from one picture are its pairs, and so are theirs.

    Args:
        paths: of the pictures.
        own: the group that the table names for each, "" for none.
        pairs: the path of the counterpart of each, "" for none.

    Example:
        >>> groups(["r", "f1", "f2", "s", "t"], ["", "", "", "v1", ""], ["f1", "r", "r", "", "s"])
        ['f1', 'f1', 'f1', 'v1', 'v1']
    """
    first = _first_of_linked(zip(paths, pairs, strict=True))
    named: dict[str, str] = {}
    for path, group in zip(paths, own, strict=True):
        if group and path in first:
            named.setdefault(first[path], group)
    linked = [named.get(first[path], first[path]) if path in first else "" for path in paths]
    return [group or link for group, link in zip(own, linked, strict=True)]


def _first_of_linked(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each path that is linked to others, through any number of pairs, with the least of their paths."""
    links: dict[str, set[str]] = {}
    for path, pair in pairs:
        if pair:
            links.setdefault(path, set()).add(pair)
            links.setdefault(pair, set()).add(path)
    first: dict[str, str] = {}
    for path in sorted(links):
        to_visit = [path] if path not in first else []
        while to_visit:
            one = to_visit.pop()
            first[one] = path
            to_visit += [other for other in links[one] if other not in first]
    return first
