"""What an image's maps have earned, in lines of text: how far each can be believed."""

from __future__ import annotations

import textwrap

from xface.results import ExplanationData, MapTrust
from xface.wording import UNCHECKED, drawable, method_at, printable

WIDTH = 80


def trust_lines(findings: ExplanationData) -> str:
    """A line for each map with what it earned, and what was chosen by it; one line where nothing is known.

    Of an untrained network nothing is said, since its maps say nothing.
    """
    if not findings.trained or not findings.maps:
        return ""
    if not findings.trust:
        return f"maps: {UNCHECKED}"
    lines = ["what each has earned, by xface trust:"]
    lines += [_wrapped(f"{method_at(each.method, each.layer)}: {each.words}") for each in findings.trust]
    return "\n".join([*lines, *([_wrapped(findings.choice, "")] if findings.choice else [])])


def few_words(findings: ExplanationData, method: str, layer: str | None) -> str:
    """The same of one map in few words; "" where nothing is known."""
    found: MapTrust | None = next(
        (each for each in findings.trust if (each.method, each.layer) == (method, layer)), None
    )
    return "" if found is None else drawable(found.few or found.grade)


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
