"""Pickles: the names that one asks for, and harmless stand-ins for those of NumPy's numbers."""

from __future__ import annotations

import pickletools
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""Booleans, integers and floats, as NumPy names their types in a pickle."""


class NumberType:
    """Stands for `numpy.dtype`, which would take its flags, fields and sizes from the file unchecked.

    Example:
        >>> float(number(NumberType("f8"), np.float64(0.25).tobytes()))
        0.25
    """

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def number(kind: NumberType, content: bytes) -> Any:
    """Stands for NumPy's function that makes a scalar of bytes; raises ValueError for what is no number."""
    if kind.code not in NUMBERS:
        raise ValueError(f"a NumPy scalar of type {kind.code!r:.40} is no number")
    [value] = np.frombuffer(content, f"{kind.order}{kind.code}")
    return value


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
