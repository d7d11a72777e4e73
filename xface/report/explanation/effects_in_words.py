"""What hiding regions does to a verdict, in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

from xface.results import ExplanationData, RegionEffect
from xface.wording import listed, number, printable, spaced

NOTHING_SPECIAL = "no region's effect is larger than that of hiding anything of its size"
UNDEFINED = "the effects of hiding regions are undefined: the scores are not finite"
DOUBTS = {
    "within_noise": "but hiding another area of about its size moves the score as far",
    "unclear": "but that depends on what is put in its place, or no other area is as large",
}


def effects_sentence(findings: ExplanationData) -> str:
    """The region that changes the verdict, or those that do most for and against it; "" without effects."""
    known = [row for row in findings.effects if row.effect is not None]
    if not known:
        return UNDEFINED if findings.effects else ""
    if findings.flips:
        return _flip(findings)
    return f"{_strongest(known, findings.label)}; {_together(findings)}"


def _flip(findings: ExplanationData) -> str:
    """The smallest region that changes the verdict; of those with a clear effect, if there are any."""
    by_name = {row.region: row for row in findings.effects}
    rows = [by_name[name] for name in findings.flips]
    row = next((each for each in rows if each.status == "clear"), rows[0])
    change = _changes(row, f"the {printable(findings.label)} score")
    what = f"hiding the {spaced(row.region)} {change}: {_new_verdict(findings)}"
    return f"{what}, {DOUBTS[row.status]}" if row.status in DOUBTS else what


def _strongest(rows: Sequence[RegionEffect], label: str) -> str:
    """The clear effect that lowers the score most; one that raises it more than that, too."""
    clear = [row for row in rows if row.status == "clear"]
    if not clear:
        unclear = [spaced(row.region) for row in rows if row.status == "unclear"]
        doubt = f"no region has a clear effect, as fills disagree on the {listed(unclear)}"
        return doubt if unclear else NOTHING_SPECIAL
    ordered = sorted(clear, key=lambda row: _known(row.effect))
    least, most = ordered[0], ordered[-1]
    said = [most] if _known(most.effect) > 0 else []
    said += [least] if _known(least.effect) < -max(_known(most.effect), 0) else []
    scores = (f"the {printable(label)} score", "it")
    return ", ".join(
        f"hiding the {spaced(row.region)} {_changes(row, score)}"
        for row, score in zip(said, scores, strict=False)
    )


def _together(findings: ExplanationData) -> str:
    if findings.flip_set:
        names = listed([spaced(name) for name in findings.flip_set])
        return f"no region alone changes the verdict; hiding {names} together does"
    return "no region alone changes the verdict, nor do those that support it together"


def _changes(row: RegionEffect, score: str) -> str:
    effect = _known(row.effect)
    amount = f"{abs(effect):.1f}" if 0.95 <= abs(effect) < 99.5 else number(abs(effect), 2)
    return f"{'lowers' if effect > 0 else 'raises'} {score} by {amount}"


def _new_verdict(findings: ExplanationData) -> str:
    others = [name for name in findings.prediction.probabilities if name != findings.prediction.label]
    return f"the verdict becomes {printable(others[0])}" if len(others) == 1 else "the verdict changes"


def _known(effect: float | None) -> float:
    return 0.0 if effect is None else effect
