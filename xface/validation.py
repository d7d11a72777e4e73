"""Settings from outside, checked by pydantic against the dataclass that they are for; its errors in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from xface.errors import UnknownNameError, UsageError
from xface.files.json_text import parse

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Kind = TypeVar("Kind")

WORDS = {
    "missing": "is missing",
    "unexpected_keyword_argument": "is unknown",
    "greater_than": "must be over {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be under {lt}",
    "less_than_equal": "must be {le} or less",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "dict_type": "must have keys of its own",
    "mapping_type": "must have keys of its own",
    "dataclass_type": "must have keys of its own",
    "model_type": "must have keys of its own",
    "model_attributes_type": "must have keys of its own",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "union_tag_not_found": "needs a type: one of {expected_tags}",
}
"""Pydantic's kinds of errors in the users' words."""

_WITHOUT_VALUE = ("missing", "unexpected_keyword_argument", "union_tag_not_found")
LONGEST_VALUE = 60


def validated(kind: type[Kind], name: str, values: object) -> Kind:
    """A dataclass with the values that JSON or YAML gave, and its defaults; `name` is what messages call it.

    Nothing is taken for what it is not, such as "1" or true for 1; a list is taken for a tuple.

    Raises:
        UnknownNameError: it has no such setting.
        UsageError: a value is of another type, or makes no sense.

    Example:
        >>> from xface.preprocessing import Preprocessing
        >>> validated(Preprocessing, "preprocessing", {"size": [224, 224]}).size
        (224, 224)
        >>> validated(Preprocessing, "preprocessing", {"sise": [224, 224]})
        Traceback (most recent call last):
        xface.errors.UnknownNameError: unknown preprocessing setting 'sise'; did you mean 'size'?
        >>> validated(Preprocessing, "preprocessing", {"size": [224, "224"]})
        Traceback (most recent call last):
        xface.errors.UsageError: preprocessing size.1 must be a whole number, not '224'
    """
    from pydantic import ValidationError

    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} must have keys of its own, such as {known[0]!r}, not {_shown(values)}")
    for key in values:
        if key not in known:
            raise UnknownNameError(f"{name} setting", str(key), known)
    try:  # as JSON, since strictness in Python would refuse lists for tuples
        text = json.dumps(dict(values))
        parse(text)  # raises for NaN and numbers without end
        made: Kind = _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        said = [in_words(each, f"{name} {dotted(each['loc'])}") for each in error.errors()]
        raise UsageError("; ".join(said)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} must hold texts, numbers and lists only: {error}") from error
    return made


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def in_words(problem: ErrorDetails, name: str) -> str:
    """What pydantic finds wrong with the value called `name`.

    Example:
        >>> from pydantic import TypeAdapter, ValidationError
        >>> try:
        ...     TypeAdapter(float).validate_python("high", strict=True)
        ... except ValidationError as error:
        ...     in_words(error.errors()[0], "threshold")
        "threshold must be a number, not 'high'"
    """
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return f"{name}: {context['error']}" if name else str(context["error"])
    said = WORDS[kind].format(**context) if kind in WORDS else problem["msg"].removeprefix("Input ")
    return f"{name} {said}" if kind in _WITHOUT_VALUE else f"{name} {said}, not {_shown(problem['input'])}"


def dotted(place: tuple[str | int, ...]) -> str:
    """Where a value stands, as users write it.

    Example:
        >>> dotted(("optimizer", "lr"))
        'optimizer.lr'
    """
    return ".".join(map(str, place))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
