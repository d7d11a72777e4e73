"""The sentences that every picture, page and table shares."""

from __future__ import annotations

from xface.results import AttributionMap, Findings, Prediction

UNTRAINED = "UNTRAINED NETWORK (random weights): these maps say nothing about the face"

UNTRAINED_RUN = f"{UNTRAINED}, and the verdicts are chance"

STATUS = {
    "zero": "zero map: nothing to show",
    "non_finite": "not finite: no map",
}


def printable(text: str, limit: int = 0x110000) -> str:
    r"""A name from outside on one line: what is invisible, breaks lines or is `limit` or above is escaped.

    Example:
        >>> printable("Zoë\n\x1b[31m.jpg"), printable("Zoë 顔.jpg", limit=0x530)
        ('Zoë\\n\\x1b[31m.jpg', 'Zoë \\u9854.jpg')
    """
    kept = (c if c.isprintable() and ord(c) < limit else c.encode("unicode_escape").decode() for c in text)
    return "".join(kept)


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


def subject(findings: Findings) -> str:
    """What is explained: the class, and how it was chosen."""
    how = {"predicted": "the predicted class", "margin": "against the best other class"}
    return f"{findings.label} ({how.get(findings.target, 'as asked')})"


def origin(findings: Findings) -> str:
    """The network and the card that was used."""
    return f"{findings.arch}, card {findings.detector['card']['source']}"


def map_name(amap: AttributionMap) -> str:
    """A map's method and layer, and its rule where that is not the published one."""
    rule = "" if amap.rule == "published" else f" ({amap.rule} rule)"
    return f"{amap.method}{f' at {amap.layer}' if amap.layer else ''}{rule}"
