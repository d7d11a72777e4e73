"""A table's column as parts of the images: its values, the most frequent first, or its numbers' quarters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xface.results import FloatArray
from xface.statistics.means import Mask
from xface.statistics.slices import bins
from xface.wording import counted

MOST_VALUES = 10
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
"""Without a leading 0, as identifiers have."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the images by a column, in `words`; `inside` (N,) says which.

    `kind` is `value` (each has this `value`), `numbers` (from `low`, not itself, to `high`), `others`
    (`joined` rarer values together) or `none` (there is no value).
    """

    words: str
    kind: str
    inside: Mask = field(repr=False)
    value: str | None = None
    joined: int = 0
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without which images are inside."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "inside"}


def parts_of(name: str, texts: Sequence[str]) -> tuple[Part, ...]:
    """The parts of a column `name` by its `texts` (N,), "" where an image has none.

    Up to 10 values are a part each. Of more, the 10 most frequent are, of as frequent ones the first by name,
    and all others together are one; but if all are numbers, their quarters are the parts.

    Example:
        >>> [(part.words, int(part.inside.sum())) for part in parts_of("device", ["b", "", "a", "b"])]
        [('b', 2), ('a', 1), ('no device', 1)]
        >>> [part.words for part in parts_of("age", list(map(str, range(20, 60))))][::3]
        ['age at most 29.8', 'age above 49.2']
    """
    column = np.asarray(texts, dtype=object)
    counts = Counter(text for text in texts if text)
    numbers = _numbers(texts) if len(counts) > MOST_VALUES else None
    parts = [*(_values(column, counts) if numbers is None else _quarters(name, numbers))]
    if (without := column == "").any():
        parts.append(Part(f"no {name}", "none", without))
    return tuple(parts)


def _values(column: NDArray[np.object_], counts: Counter[str]) -> Iterator[Part]:
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    for value in ranked[:MOST_VALUES]:
        yield Part(value, "value", column == value, value)
    if rarer := ranked[MOST_VALUES:]:
        yield Part(counted(len(rarer), "other value"), "others", np.isin(column, rarer), joined=len(rarer))


def _numbers(texts: Sequence[str]) -> FloatArray | None:
    """The texts as numbers, NaN for none; None if one isn't a number."""
    given = [text for text in texts if text]
    if not all(map(NUMBER.fullmatch, given)):
        return None
    values = np.array([float(text or "nan") for text in texts])
    return None if np.isinf(values).any() else values


def _quarters(name: str, numbers: FloatArray) -> Iterator[Part]:
    for condition, inside in bins(name, numbers):
        yield Part(condition.words, "numbers", inside, low=condition.low, high=condition.high)
