"""What is asked of a detector where the caller doesn't say: chosen by what its maps earned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xface.attribution import METHODS
from xface.attribution.maps import Key
from xface.detectors.detector import Detector
from xface.detectors.trust_digest import DigestAnswer, leads_as
from xface.results import MapTrust
from xface.wording import UNCHECKED

EFFECTS_KEY: Key = ("effects", None)
"""Under which the region effects stand among what maps earned."""

Best = tuple[DigestAnswer, str]
"""A map, and the check by which it is the best."""

NONE_INFORMATIVE = "no map of this detector is informative by xface trust: the usual ones are taken"


@dataclass(frozen=True)
class Choice:
    """The map that leads and the layer of the others, None where the card says nothing; and why, in words."""

    leading: Key | None = None
    layer: str | None = None
    words: str = ""


def choose(detector: Detector, methods: Sequence[str] | None, layers: Sequence[str] | None) -> Choice:
    """What is chosen where no methods, or no layers, are named (None); whatever is named stays.

    Of the informative maps, the one with the best figure on the first check that ranks maps leads. Of those
    at a layer, of the named methods if any of these is informative, the best one's layer is the default.
    """
    digest = detector.card.trust
    layered = methods is None or any(METHODS[name].layered for name in methods)
    if digest is None or not (methods is None or (layers is None and layered)):
        return Choice()
    lead = None if methods is not None else _best(detector, lambda each: _at(each, layers))
    place = _default_place(detector, methods) if layers is None else None
    if lead is None and place is None:
        return Choice(words=NONE_INFORMATIVE)
    said = [f"{leads_as(digest, *lead)} leads"] if lead else []
    layer = place[0].layer if place else None
    if place and lead and place[0] == lead[0]:
        said.append(f"others are at {layer} too")
    elif place:
        said.append(f"{layer} is the default layer for {leads_as(digest, *place)}")
    return Choice((lead[0].method, lead[0].layer) if lead else None, layer, "; ".join(said))


def earned(detector: Detector, keys: Sequence[Key]) -> tuple[MapTrust, ...]:
    """What each map earned; nothing where the detector was not checked."""
    digest = detector.card.trust
    return () if digest is None else tuple(digest.of(*key) for key in keys)


def first(keys: Sequence[Key], leading: Key | None) -> list[Key]:
    """Maps in their order, but for the leading one.

    Example:
        >>> first([("vanilla", None), ("gradcam", "layer4")], ("gradcam", "layer4"))
        [('gradcam', 'layer4'), ('vanilla', None)]
    """
    return sorted(keys, key=lambda key: key != leading)


def caution(detector: Detector) -> str:
    """That nothing is known of a detector's maps, if it is so."""
    return UNCHECKED if detector.trained and detector.card.trust is None else ""


def _default_place(detector: Detector, methods: Sequence[str] | None) -> Best | None:
    def of_named(each: DigestAnswer) -> bool:
        return each.layer is not None and (methods is None or each.method in methods)

    return _best(detector, of_named) or _best(detector, lambda each: each.layer is not None)


def _at(each: DigestAnswer, layers: Sequence[str] | None) -> bool:
    return each.layer is None or layers is None or each.layer in layers


def _best(detector: Detector, suits: Callable[[DigestAnswer], bool]) -> Best | None:
    """The best informative map of those that suit, and that the network and xface still have."""
    modules = {name for name, _ in detector.model.named_modules(remove_duplicate=False)}

    def is_there(each: DigestAnswer) -> bool:
        known = each.method in METHODS and METHODS[each.method].layered == (each.layer is not None)
        return known and (each.layer is None or each.layer in modules) and suits(each)

    return detector.card.trust.leading(is_there) if detector.card.trust else None
