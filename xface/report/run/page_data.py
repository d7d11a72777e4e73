"""What a page's script reads, as text that no name from outside can break out of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xface.results import FloatArray

SMALLEST = 1e-12  # below it a number is written as 0
ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def as_data(value: Any) -> str:
    r"""JSON that may stand inside a `<script>`: pure ASCII, without `<`, `>` and `&`.

    Example:
        >>> print(as_data(["</script><!--", "\u2028"]))
        ["\u003c/script\u003e\u003c!--","\u2028"]
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(ESCAPES)


def as_script(name: str, value: Any) -> str:
    """A script file that hands data to the page: pages opened from disk may load no other kind."""
    return f"xfaceData({as_data(name)},{as_data(value)});\n"


def as_script_lines(name: str, entries: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """The same of an object, entry by entry, so that it is never in memory whole.

    Example:
        >>> print("".join(as_script_lines("ends", [("low", 0), ("high", 1)])), end="")
        xfaceData("ends",{"low":0
        ,"high":1
        });
    """
    yield f"xfaceData({as_data(name)},{{"
    for number, (key, value) in enumerate(entries):
        yield f"{',' if number else ''}{as_data(key)}:{as_data(value)}\n"
    yield "});\n"


def plain(values: ArrayLike, digits: int | None = 4) -> list[float | None]:
    """Numbers, rounded to significant digits unless `digits` is None; those that are not finite are None.

    Example:
        >>> plain([3.14159, float("nan"), 12345.6]), plain([1 / 3], None)
        ([3.142, None, 12346.0], [0.3333333333333333])
    """
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    defined = np.where(finite, numbers, 0.0)
    shown = (defined if digits is None else _rounded(defined, digits)).astype(object)
    shown[~finite] = None
    found: list[float | None] = shown.tolist()
    return found


def _rounded(values: FloatArray, digits: int) -> FloatArray:
    size = np.floor(np.log10(np.maximum(np.abs(values), SMALLEST)))
    scale = 10.0 ** np.clip(digits - 1 - size, 0, digits - 1 - np.log10(SMALLEST))
    return np.asarray(np.round(values * scale) / scale)
