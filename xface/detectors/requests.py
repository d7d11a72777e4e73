"""What is asked of a detector: which class, by which methods, at which layers."""

from __future__ import annotations

from collections.abc import Sequence

from xface.attribution import METHODS
from xface.attribution.targets import Targets
from xface.detectors.choosing import choose
from xface.detectors.detector import Detector
from xface.errors import UnknownNameError, UsageError

ALL_STAGES = "all"


def positive_class(detector: Detector) -> str:
    """The class whose probability is an image's score; UsageError if none of the detector's is positive."""
    if detector.card.positive is None:
        raise UsageError(
            f"no class of this detector is called fake ({', '.join(detector.classes)}); "
            "say which one is the forgery: --positive NAME"
        )
    return detector.card.positive


def checked(
    detector: Detector, methods: Sequence[str] | None, layers: Sequence[str] | str | None, target: str | int
) -> tuple[Targets, Sequence[str] | None, Sequence[str]]:
    """Targets, methods and layers as `attribute` takes them, from what `explain` takes.

    Where no layer is named it is the one that `choose` finds, else the one recommended for the architecture.

    Raises:
        UnknownNameError, TargetError: the detector has no such layer or class, or there is no such method.
        UsageError: a method needs a layer, and the architecture recommends none.
    """
    if not isinstance(detector, Detector):
        raise UsageError(
            f"explain takes a detector from xface.load, not a {type(detector).__name__}; for a bare network "
            "and tensors there is xface.attribute"
        )
    methods = [methods] if isinstance(methods, str) else methods
    layered = [name for name in methods or () if METHODS[name].layered]  # raises for an unknown name
    chosen = _layers(detector, methods, layers)
    if layered and not chosen:
        raise UsageError(
            f"{', '.join(layered)} works at a layer, and none is recommended for {detector.arch.name}; "
            "name one of those that `xface layers` lists"
        )
    return _engine_target(detector, target), methods, chosen


def _engine_target(detector: Detector, target: str | int) -> Targets:
    """The classes' names come first: a class may be called `margin`."""
    if not isinstance(target, str):
        return target
    if target in detector.classes or target not in ("predicted", "margin"):
        return detector.class_index(target)
    return detector.called if target == "predicted" else target


def _layers(
    detector: Detector, methods: Sequence[str] | None, layers: Sequence[str] | str | None
) -> Sequence[str]:
    if layers is None:
        default = choose(detector, methods, None).layer or detector.arch.layer
        return [default] if default else []
    names = [layers] if isinstance(layers, str) else layers
    chosen = [part for name in names for part in (detector.arch.stages if name == ALL_STAGES else [name])]
    known = dict(detector.model.named_modules(remove_duplicate=False))
    # The engine would notice too, but only where a chosen method works at a layer.
    for name in chosen:
        if name not in known:
            raise UnknownNameError("layer", name, filter(None, known), "See `xface layers`.")
    return chosen
