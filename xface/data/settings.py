"""Settings that come from outside, checked against the dataclass that they are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import formatannotation
from typing import TypeVar

from xface.errors import UnknownNameError, UsageError

Kind = TypeVar("Kind")


def from_settings(kind: Callable[..., Kind], name: str, values: object) -> Kind:
    """A dataclass of texts, numbers and tuples of numbers with the values given, and its defaults.

    Raises:
        UnknownNameError: it has no such setting.
        UsageError: a value is of another kind, or makes no sense.

    Example:
        >>> from xface.data.self_blending import SelfBlending
        >>> from_settings(SelfBlending, "self_blend", {"tint": 10, "erosion": [0.1, 0.2]}).erosion
        (0.1, 0.2)
        >>> from_settings(SelfBlending, "self_blend", {"tints": 10})
        Traceback (most recent call last):
        xface.errors.UnknownNameError: unknown parameter of self_blend 'tints'; did you mean 'tint', 'ratios'?
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{name}: its parameters must be named, not {values!r}")
    kinds = {field.name: _spelled(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in kinds:
            raise UnknownNameError(f"parameter of {name}", str(key), kinds)
        wanted, fits = _WANTED[kinds[key]]
        if not fits(value):
            raise UsageError(f"{name}: {key} must be {wanted}, not {value!r}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _spelled(kind: object) -> str:
    """A field's type as it is written, with and without `from __future__ import annotations`."""
    return kind if isinstance(kind, str) else formatannotation(kind)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_number, value))


def _are_two_numbers(value: object) -> bool:
    return _are_numbers(value) and len(value) == 2  # type: ignore[arg-type]


_WANTED: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("a text", _is_text),
    "float": ("a number", _is_number),
    "tuple[float, float]": ("2 numbers", _are_two_numbers),
    "tuple[int, int]": ("2 numbers", _are_two_numbers),
    "tuple[float, ...]": ("a list of numbers", _are_numbers),
}
