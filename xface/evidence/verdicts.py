"""What a verdict at a threshold owes to each part of a face: hidden, beside as much hidden elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from xface.detectors.detector import Detector
from xface.evidence.controls import control_areas
from xface.evidence.effects import Asking, Effects, by_most, without_control
from xface.evidence.hiding import NEUTRAL, ShownFace, feathered
from xface.faces.regions import REGIONS
from xface.results import FloatArray
from xface.runs.schema import ALIKE
from xface.wording import MIRRORED, mirror


@dataclass(frozen=True, eq=False)
class VerdictEffects:
    """The effects of K parts of a face on the score of the class that it is called.

    `effects` (F, K) are by fill, their `flips` (K,) whether the verdict at the threshold becomes the other
    one. `control_flips` (K,) say so of the control areas, whose sizes are `control_areas` (K,), parts of the
    picture; NaN for none. `sign` is 1 for a face that is called positive, else -1: with it an effect becomes
    that on the score of the positive class.
    """

    parts: tuple[str, ...]
    effects: Effects
    control_flips: NDArray[np.bool_] = field(repr=False)
    control_areas: FloatArray = field(repr=False)
    sign: int


def face_parts() -> dict[str, tuple[str, ...]]:
    """What is hidden together: each region by itself, and the right and the left one of a kind.

    Example:
        >>> [name for name, regions in face_parts().items() if len(regions) > 1]
        ['eyes', 'eyebrows', 'cheeks']
    """
    rights = [name for name in REGIONS if name.startswith(MIRRORED[0])]
    pairs = {both: (right, left) for right in rights for left, both in [mirror(right)] if left in REGIONS}
    return {**{name: (name,) for name in REGIONS}, **pairs}


def verdict_effects(
    detector: Detector, face: ShownFace, positive: int, threshold: float, fills: Sequence[str] = NEUTRAL
) -> VerdictEffects:
    """What hiding each part of a face does to its verdict, and hiding as much elsewhere in the picture.

    Args:
        detector: the detector.
        face: what it is shown; on any device.
        positive: the index of the positive class.
        threshold: a face is called positive if that class's probability is at least so much.
        fills: names from `FILLS`.

    Example:
        >>> from xface.detectors.loading import load
        >>> labels = torch.full((64, 64), list(REGIONS).index("background"))
        >>> labels[20:40, 20:40] = list(REGIONS).index("nose")
        >>> face = ShownFace(torch.rand(3, 64, 64), labels, iod=16.0)
        >>> found = verdict_effects(load("none", arch="resnet18"), face, 0, 0.5)
        >>> found.parts[-1], found.effects.values.shape
        ('cheeks', (3, 14))
    """
    masks = _masks(face)
    there, parts = masks.any(axis=(1, 2)), slice(len(masks))
    controls = control_areas(face.labels.cpu().numpy().astype(np.uint8), masks, ALIKE)
    has_control = there & (controls.of_region >= 0)
    elsewhere = np.where(has_control, controls.of_region + len(masks), 0)
    hidden = torch.from_numpy(np.concatenate([masks, controls.masks])).to(face.image.device)
    ask = Asking(detector, face, positive, tuple(fills))
    before, after = ask.untouched, ask.hidden(feathered(hidden, face.iod))
    is_positive = bool(before.probabilities >= threshold)
    sign = 1 if is_positive else -1
    gaps = sign * (before.scores - after.scores)
    moves = sign * (before.probabilities - after.probabilities)
    flips = by_most(((after.probabilities >= threshold) != is_positive) & np.isfinite(gaps))
    sizes = hidden.flatten(1).float().mean(dim=1).cpu().numpy()
    effects = Effects(
        fills=ask.fills,
        score=sign * float(before.scores),
        values=np.where(there, gaps[:, parts], np.nan),
        probabilities=np.where(there, moves[:, parts], np.nan),
        controls=np.where(has_control, gaps[:, elsewhere], np.nan),
        areas=sizes[parts],
        flips=flips[parts] & there,
        uncontrolled=without_control(masks, controls),
    )
    control_flips = flips[elsewhere] & has_control
    return VerdictEffects(
        tuple(face_parts()), effects, control_flips, np.where(has_control, sizes[elsewhere], np.nan), sign
    )


def _masks(face: ShownFace) -> NDArray[np.bool_]:
    """The pixels of each part (K, H, W)."""
    labels, names = face.labels.cpu().numpy(), list(REGIONS)
    return np.stack(
        [np.isin(labels, [names.index(region) for region in regions]) for regions in face_parts().values()]
    )
