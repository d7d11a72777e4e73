"""How the page says numbers, names and outcomes, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from xface.results import NOT_CHECKED, OUTCOMES, POSITIVES, AttributionMap, ExplanationData, Prediction

SCORE_WORDS = {
    "auc": ("AUC", "How often a forged image scores above a genuine one: 1 is perfect, 0.5 is chance."),
    "eer": ("Equal error rate", "The error rate at the threshold where both kinds of error are as frequent."),
    "average_precision": ("Average precision", "Precision averaged over recall; chance is the prevalence."),
    "accuracy": ("Accuracy", "The part of images classified correctly at the threshold."),
    "balanced_accuracy": ("Balanced accuracy", "The mean of the two classes' accuracies: 0.5 is chance."),
}
RATE_WORDS = {"FP": "false positive rate", "FN": "false negative rate"}
CHANGE_WORDS = {"fixed": "errors that are fixed", "new": "errors that are new", "still": "errors that stayed"}
STATUS_WORDS = {
    "ok": "measured",
    "no_face": "no face found",
    "unreadable": "unreadable file",
    "missing": "file missing",
    "non_finite": "score not finite",
    "zero": "map is zero everywhere",
}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
NOTHING = "\N{EN DASH}"
UNCHECKED = f"{NOT_CHECKED} for this detector: run xface trust"
"""Of maps, where nobody has tried what they are worth."""

MIRRORED = ("right_", "left_")
"""How the names of a region and of its mirror image begin."""

BASELINE_WORDS = {
    "gaussian": "the face's centre",
    "edges": "an edge filter",
    "random": "random numbers",
    "untrained": "the same on the untrained network",
}
"""What maps are held against by `xface trust`."""


def negative_name(positive: str, classes: Iterable[str]) -> str:
    """What is not the positive class; `classes` may name one several times, as a column of labels does.

    Example:
        >>> negative_name("fake", ["fake", "real"]), negative_name("swap", ["swap", "gan", "real"])
        ('real', 'not swap')
    """
    others = set(classes) - {positive}
    return others.pop() if len(others) == 1 else f"not {positive}"


def outcome_words(positive: str, classes: list[str]) -> dict[str, str]:
    """What each outcome means.

    Example:
        >>> outcome_words("fake", ["fake", "real"])["FP"]
        'real called fake'
    """
    named = {"P": positive, "N": negative_name(positive, classes)}
    truths = {outcome: named["P" if outcome in POSITIVES else "N"] for outcome in OUTCOMES}
    return {outcome: f"{truth} called {named[outcome[1]]}" for outcome, truth in truths.items()}


def moment(text: str) -> str:
    """A time as words.

    Example:
        >>> moment("2026-01-02T03:04:05+00:00"), moment("yesterday")
        ('2 January 2026, 03:04 UTC', 'yesterday')
    """
    try:
        when = datetime.fromisoformat(text).astimezone(timezone.utc)
    except ValueError:
        return text
    return f"{when.day} {MONTHS[when.month - 1]} {when:%Y, %H:%M} UTC"


def spaced(name: str) -> str:
    """A region's or column's name as words.

    Example:
        >>> spaced("right_eye")
        'right eye'
    """
    return name.replace("_", " ")


def mirror(region: str) -> tuple[str, str]:
    """The region on the face's other side, and what the two are called; "" where it has none.

    Example:
        >>> mirror("left_eye"), mirror("nose")
        (('right_eye', 'eyes'), ('', ''))
    """
    for side, other in (MIRRORED, MIRRORED[::-1]):
        if region.startswith(side):
            return other + region.removeprefix(side), region.removeprefix(side) + "s"
    return "", ""


def sentence(text: str) -> str:
    """A remark as a sentence.

    Example:
        >>> sentence("no face: 3 of 10"), sentence("None is left.")
        ('No face: 3 of 10.', 'None is left.')
    """
    return f"{text[:1].upper()}{text[1:].rstrip(' .')}."


def method_at(method: str, layer: str | None, rule: str = "published") -> str:
    """A method, its layer if it has one, and its rule where that is not the published one.

    Example:
        >>> method_at("gradcam", "layer4"), method_at("guided", "", "extended")
        ('gradcam at layer4', 'guided (extended rule)')
    """
    place = f" at {layer}" if layer else ""
    return f"{method}{place}{'' if rule == 'published' else f' ({rule} rule)'}"


def kind_name(kind: Mapping[str, Any]) -> str:
    """A map's method, with its layer if it has one.

    Example:
        >>> kind_name({"method": "gradcam", "layer": "layer4"}), kind_name({"method": "vanilla", "layer": ""})
        ('gradcam at layer4', 'vanilla')
    """
    return method_at(kind["method"], kind["layer"])


def number(value: Any, digits: int = 3) -> str:
    """A number to some digits, or a dash.

    Example:
        >>> number(0.91234), number(None), number(1234567), number(12.0)
        ('0.912', '\N{EN DASH}', '1,234,567', '12')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NOTHING
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def highest(lifts: Mapping[str, float | None], count: int = 3) -> list[tuple[str, float]]:
    """The regions with the highest lifts, of those that have one.

    Example:
        >>> highest({"nose": 1.0, "mouth": None, "jaw": 2.0})
        [('jaw', 2.0), ('nose', 1.0)]
    """
    known = [(name, lift) for name, lift in lifts.items() if lift is not None]
    return sorted(known, key=lambda each: -each[1])[:count]


def counted(count: int, noun: str) -> str:
    """How many there are of something.

    Example:
        >>> counted(1, "image"), counted(1200, "image")
        ('1 image', '1,200 images')
    """
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    Example:
        >>> listed(["dark"]), listed(["dark", "small", "turned"])
        ('dark', 'dark, small and turned')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def decimal(value: float | None) -> str:
    """A score to three decimals, or a dash.

    Example:
        >>> decimal(0.3), decimal(None)
        ('0.300', '\N{EN DASH}')
    """
    return NOTHING if value is None else f"{value:.3f}"


def estimate(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A value with its interval.

    Example:
        >>> estimate({"value": 0.9, "low": 0.88, "high": 0.92}), estimate({"value": 1.0, "low": None})
        ('0.9 (0.88 to 0.92)', '1')
    """
    if not found or found.get("value") is None:
        return NOTHING
    value, low, high = (number(found.get(name), digits) for name in ("value", "low", "high"))
    return value if NOTHING in (low, high) else f"{value} ({low} to {high})"


def percent(found: Mapping[str, Any] | float | None) -> str:
    """A part as per cent, with its interval if there is one.

    Example:
        >>> percent(0.5), percent({"value": 0.123, "low": 0.1, "high": 0.2}), percent(None)
        ('50 %', '12.3 % (10 to 20)', '\N{EN DASH}')
    """
    if not isinstance(found, Mapping):
        return NOTHING if found is None else f"{number(100 * found)} %"
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    if value is None:
        return NOTHING
    around = "" if low is None or high is None else f" ({number(100 * low)} to {number(100 * high)})"
    return f"{number(100 * value)} %{around}"


def figure_text(value: float | None, percent: bool, signed: bool = False) -> str:
    """A figure of `xface trust`: a rate in whole per cent, others to two decimals.

    Example:
        >>> figure_text(0.523, percent=True), figure_text(0.5, percent=True, signed=True)
        ('52 %', '+50 %')
        >>> figure_text(0.523, percent=False), figure_text(None, percent=True)
        ('0.52', '\N{EN DASH}')
    """
    if value is None:
        return NOTHING
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.0f} %" if percent else f"{value:{sign}.2f}"


def figure_range(ends: Sequence[float], percent: bool, signed: bool = False) -> str:
    """The ends of such a figure's interval.

    Example:
        >>> figure_range([0.4, 0.64], percent=True)
        '40 to 64 %'
    """
    low, high = (figure_text(end, percent, signed) for end in ends)
    return f"{low.removesuffix(' %')} to {high}"


def p_value(p: float | None) -> str:
    """A p or q value.

    Example:
        >>> p_value(0.00001), p_value(0.0312), p_value(None)
        ('< 0.001', '0.031', '\N{EN DASH}')
    """
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


UNTRAINED = "UNTRAINED NETWORK (random weights): these maps say nothing about the face"

UNTRAINED_RUN = f"{UNTRAINED}, and the verdicts are chance"

STATUS = {
    "zero": "zero map: nothing to show",
    "non_finite": "not finite: no map",
}


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of cells as text in columns: the first `left` of them to the left, the others to the right.

    Example:
        >>> print(aligned([["", "n"], ["one", "10"], ["three", "5"]]))
                n
        one    10
        three   5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = [cell.ljust(width) for cell, width in zip(row[:left], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, rows))


FONT_ENDS = 0x530  # matplotlib's own font has Latin, Greek and Cyrillic


def printable(text: str, limit: int = 0x110000) -> str:
    r"""A name from outside on one line: what is invisible, breaks lines or is `limit` or above is escaped.

    Example:
        >>> print(printable("Zoë\n\x1b[31m.jpg"))
        Zoë\n\x1b[31m.jpg
    """
    kept = (c if c.isprintable() and ord(c) < limit else c.encode("unicode_escape").decode() for c in text)
    return "".join(kept)


def drawable(text: str) -> str:
    r"""The same for a figure, where what its font lacks is escaped too.

    Example:
        >>> print(drawable("Zoë 顔.jpg"))
        Zoë \u9854.jpg
    """
    return printable(text, FONT_ENDS)


def verdict(prediction: Prediction) -> str:
    """The predicted class and its probability, and the forgery's unless that follows from them.

    It does where there are two classes, and the forgery is called fake.

    Example:
        >>> verdict(Prediction("fake", 0.912, {"fake": 0.912, "real": 0.088}, "fake"))
        'fake, probability 0.912'
        >>> verdict(Prediction("swap", 0.5, {"real": 0.2, "swap": 0.5, "gan": 0.3}, "gan"))
        'swap, probability 0.500; forged (gan) 0.300'
    """
    called = f"{prediction.label}, probability {prediction.probability:.3f}"
    positive, forged = prediction.positive, prediction.positive_probability
    follows = len(prediction.probabilities) == 2 and str(positive).casefold() == "fake"
    return called if forged is None or follows else f"{called}; forged ({positive}) {forged:.3f}"


def subject(findings: ExplanationData) -> str:
    """What is explained: the class, and how it was chosen."""
    how = {"predicted": "the predicted class", "margin": "against the best other class"}
    return f"{findings.label} ({how.get(findings.target, 'as asked')})"


def origin(findings: ExplanationData) -> str:
    """The network and the card that was used."""
    return f"{findings.arch}, card {findings.detector['card']['source']}"


def map_name(amap: AttributionMap) -> str:
    """A map's method and layer, and its rule where that is not the published one."""
    return method_at(amap.method, amap.layer, amap.rule)
