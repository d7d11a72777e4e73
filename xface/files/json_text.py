"""JSON that every program reads alike, from outside or written: RFC 8259, without what only Python takes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

MOST_DIGITS = 15
"""So many digits a whole number may have: up to 2^53 it is the same in every program."""

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')
"""A string, and the colon after it if it is a key."""


def parse(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or says something that is read in more ways than one:
            NaN, Infinity, a number too large for a float, a whole number of over 15 digits, a key twice in
            an object, half of a surrogate pair, a null character; with the line and the key.

    Example:
        >>> parse('{"scale": 255,\\n "mean": [NaN, 0, 0]}')
        Traceback (most recent call last):
        ValueError: line 2, key 'mean': NaN is not a finite number
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(text, pairs),
            parse_constant=lambda literal: _refuse(text, literal, "is not a finite number"),
            parse_float=lambda literal: _float(text, literal),
            parse_int=lambda literal: _int(text, literal),
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: this is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def written(content: Any) -> str:
    """A content as indented JSON text, in which what UTF-8 lacks is spelled out, as by `files.as_utf8`.

    Raises:
        ValueError: it holds NaN or Infinity.

    Example:
        >>> parse(written({"image": "a\\udc80.jpg"}))
        {'image': 'a\\\\udc80.jpg'}
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda half: rf"\\u{ord(half[0]):x}", text) + "\n"


def _object(text: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{_line(text, _last(text, twice))}: the key {twice!r} occurs twice")
    for key, value in pairs:
        for one in (key, *(value if isinstance(value, list) else [value])):
            if isinstance(one, str) and (odd := re.search("[\0\ud800-\udfff]", one)):
                raise ValueError(f"{_line(text, _last(text, key))}, key {key!r}: no text holds {odd[0]!r}")
    return content


def _float(text: str, literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        _refuse(text, literal, "is not a finite number")
    return value


def _int(text: str, literal: str) -> int:
    if len(literal.lstrip("-")) > MOST_DIGITS:
        _refuse(text, literal, f"has more than {MOST_DIGITS} digits")
    return int(literal)


def _refuse(text: str, literal: str, reason: str) -> NoReturn:
    """Raise ValueError with the line and the key of a number: of its first place outside of strings."""
    at = _STRING.sub(lambda found: "_" * len(found[0]), text).index(literal)
    before = [found[1] for found in _STRING.finditer(text, 0, at) if found[2]]
    key = f", key {before[-1]!r}" if before else ""
    shown = literal if len(literal) <= 40 else f"{literal[:20]}..."
    raise ValueError(f"{_line(text, at)}{key}: {shown} {reason}")


def _last(text: str, key: str) -> int:
    """Where a key is written last; 0 where it is written otherwise, with escapes."""
    places = (found.start() for found in _STRING.finditer(text) if found[2] and found[1] == key)
    return max(places, default=0)


def _line(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"
