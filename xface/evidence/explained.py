"""The effects that go with an explanation: of hiding each region, with Shapley values if asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from xface.detectors.detector import Detector
from xface.errors import UnknownNameError
from xface.evidence.effects import region_effects
from xface.evidence.hiding import ShownFace
from xface.evidence.shapley import ShapleyValues, shapley_values
from xface.results import FloatArray, RegionEffect
from xface.wording import printable

EffectKind: TypeAlias = Literal["regions", "shapley"]

EFFECT_KINDS: tuple[EffectKind, ...] = get_args(EffectKind)
"""What can be asked for: the effects of hiding regions, or those and the regions' Shapley values."""


@dataclass(frozen=True)
class ExplainedEffects:
    """The `effects` of a face's regions, the `flip_set`, and `notes` on why there are none."""

    effects: tuple[RegionEffect, ...] = ()
    flip_set: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def check_effect_kind(kind: str | None) -> None:
    """Raise UnknownNameError for what is neither None nor a kind of effects."""
    if kind is not None and kind not in EFFECT_KINDS:
        raise UnknownNameError("effects", str(kind), EFFECT_KINDS, "None turns them off.")


def explained_effects(
    detector: Detector,
    image: Tensor,
    landmarks: FloatArray,
    target: int,
    kind: EffectKind,
    logits: Tensor | None = None,
) -> ExplainedEffects:
    """The effects of the regions of a prepared picture (3, H, W) on the score of the class `target`.

    `landmarks` (68, 2) are in its pixels, `logits` (1, C) what the network said of it, if it was asked.
    Whatever fails becomes a note: maps do not depend on it.

    Example:
        >>> import numpy as np, torch
        >>> from xface.detectors.loading import load
        >>> detector, nowhere = load("none", arch="resnet18"), np.zeros((68, 2))
        >>> explained_effects(detector, torch.zeros(3, 64, 64), nowhere, 0, "regions").notes
        ('no effects of regions: ...',)
    """
    try:
        face = ShownFace.of(image.to(detector.device), landmarks)
        found = region_effects(detector, face, target, logits=logits)
        rows = found.rows()
        if kind == "shapley":
            rows = tuple(_with_shapley(rows, shapley_values(detector, face, target, logits=logits)))
    except Exception as error:  # whatever a network of others raises for pictures that are changed
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return ExplainedEffects(notes=(f"no effects of regions: {printable(reason)}",))
    return ExplainedEffects(rows, found.flip_set)


def _with_shapley(rows: tuple[RegionEffect, ...], found: ShapleyValues) -> Iterable[RegionEffect]:
    for row, value, error in zip(rows, found.values.tolist(), found.errors.tolist(), strict=True):
        known = isfinite(value)
        yield replace(row, shapley=value if known else None, shapley_error=error if known else None)
