"""Pickles: the names that one asks for, read off its instructions without following any."""

from __future__ import annotations

import pickletools
from contextlib import suppress
from pathlib import Path


def pickled_names(path: Path) -> list[str]:
    """The functions and classes that a file's first pickle (any protocol) asks for; none if it is no pickle.

    What `torch.save` writes without a zip begins with a pickle of one number, which asks for none.
    """
    names: set[str] = set()
    memo: dict[int, object] = {}
    last: tuple[object, object] = (None, None)  # the two that were pushed last
    with suppress(Exception), open(path, "rb") as file:  # on what is no pickle, a dozen kinds
        for instruction, value, _ in pickletools.genops(file):
            name = instruction.name
            if name in ("GLOBAL", "INST"):
                names.add(str(value).replace(" ", "."))
            elif name == "STACK_GLOBAL":
                names.add(f"{last[0]}.{last[1]}")
            if name == "MEMOIZE" or name.endswith("PUT"):
                memo[len(memo) if value is None else int(value)] = last[1]
            elif name.endswith("GET"):
                last = last[1], memo.get(int(value or 0))
            elif instruction.stack_after:
                last = last[1], value
        return sorted(names)
    return []
