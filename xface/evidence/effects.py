"""Region effects: what each region of a face does to the verdict, shown by hiding it.

The score is the log-odds of a class: with logits z, of class t

    score = z_t - log(sum of exp(z_j) over the other classes j)

which for two classes is the difference of the logits, and for a single one the logit. (A class's logit alone
says little: adding a number to all logits changes no verdict.) The effect of region R under a fill is

    effect = score(picture) - score(picture with R hidden)

and the effect of R is the mean over the fills `blur`, `mean` and `inpaint`. Beside it stands that of a
control area of about the same size, elsewhere in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xface.attribution.targets import class_scores
from xface.detectors.detector import Detector
from xface.evidence.controls import Controls, control_areas
from xface.evidence.hiding import NEUTRAL, ShownFace, feathered, hide
from xface.faces.regions import BACKGROUND, REGIONS
from xface.results import EffectStatus, FloatArray, RegionEffect

FLOOR = 1e-3  # logits: below it an effect is none, whatever the control
AT_ONCE = {"cpu": 2**18, "other": 2**24}  # pixels of pictures shown to a network at once, by kind of device
HIDDEN_AT_ONCE = 2**22  # pixels of hidden pictures held at once


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of K pictures: the class's `scores` and `probabilities`, the class they are
    `called`.

    `own_scores` are those of the class that the untouched picture is called. All are (K,), or (F, K) over
    fills.
    """

    scores: FloatArray
    probabilities: FloatArray
    called: NDArray[np.intp]
    own_scores: FloatArray


@dataclass(frozen=True, eq=False)
class Effects:
    """The effects of a face's regions, by fill and region (F, R), in logits and as probabilities; NaN
    undefined.

    `controls` (F, R) are those of the control areas, `areas` (R,) parts of the picture, `flips` (R,) whether
    the verdict changes under most fills. `score` is that of the untouched picture. `flip_set`: see
    `region_effects`. `uncontrolled` (R,) are those whose control area has under half their size.
    """

    fills: tuple[str, ...]
    score: float
    values: FloatArray = field(repr=False)
    probabilities: FloatArray = field(repr=False)
    controls: FloatArray = field(repr=False)
    areas: FloatArray = field(repr=False)
    flips: NDArray[np.bool_] = field(repr=False)
    flip_set: tuple[str, ...] | None = None
    uncontrolled: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def effect(self) -> FloatArray:
        """The effect of each region, (R,): the mean over the fills."""
        return over_fills(self.values)

    @property
    def status(self) -> list[EffectStatus]:
        """Each region's: `undefined`, `within_noise`, `unclear`, else `clear`.

        An effect is unclear where the fills differ in sign, or where too little could be hidden elsewhere to
        compare it with.
        """
        noise = np.maximum(np.abs(np.nan_to_num(over_fills(self.controls))), FLOOR)
        alone = np.zeros(len(noise), bool) if self.uncontrolled is None else self.uncontrolled
        return [_status(*each) for each in zip(self.values.T, noise, alone, strict=True)]

    def rows(self) -> tuple[RegionEffect, ...]:
        """A row per region, in the order of `REGIONS`."""
        return tuple(self._row(index, name) for index, name in enumerate(REGIONS))

    def _row(self, index: int, name: str) -> RegionEffect:
        values = self.values[:, index]
        return RegionEffect(
            region=name,
            effect=_number(self.effect[index]),
            effect_probability=_number(over_fills(self.probabilities)[index]),
            spread=_number(values.std(ddof=1)) if len(values) > 1 else None,
            control=_number(over_fills(self.controls)[index]),
            status=self.status[index],
            flips=bool(self.flips[index]),
            area=float(self.areas[index]),
            fills={fill: _number(value) for fill, value in zip(self.fills, values, strict=True)},
        )


def over_fills(values: FloatArray) -> FloatArray:
    """What hiding each area does, (K,): the mean over the fills of what it does by each, (F, K)."""
    return np.asarray(values.mean(axis=0))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _status(values: FloatArray, noise: float, uncontrolled: bool) -> EffectStatus:
    if not np.isfinite(values).all():
        return "undefined"
    if abs(values.mean()) <= noise:
        return "within_noise"
    differ = bool((values > FLOOR).any() and (values < -FLOOR).any())
    return "unclear" if differ or uncontrolled else "clear"


def region_effects(
    detector: Detector,
    face: ShownFace,
    target: int,
    fills: Sequence[str] = NEUTRAL,
    logits: Tensor | None = None,
) -> Effects:
    """The effect of hiding each region of a face, and of hiding a control area of about its size.

    `flip_set` is the smallest region whose hiding changes the verdict under most fills. Where no single one
    does, regions are hidden together, those that do most for the verdict first: so many that they change it
    and one fewer do not, searched from where their effects sum to the score; None if none was found, the
    background left visible. This is greedy: other regions, or fewer of the same, may change it too.

    Args:
        detector: the detector.
        face: what it is shown; on any device.
        target: the index of the class whose score is asked for.
        fills: names from `FILLS`.
        logits: what the network says of the untouched picture, if it was asked already.

    Example:
        >>> from xface.detectors.loading import load
        >>> labels = torch.full((64, 64), list(REGIONS).index("background"))
        >>> labels[20:40, 20:40] = list(REGIONS).index("nose")
        >>> face = ShownFace(torch.rand(3, 64, 64), labels, iod=16.0)
        >>> found = region_effects(load("none", arch="resnet18"), face, target=0)
        >>> found.values.shape, found.rows()[0].status
        ((3, 11), 'undefined')
    """
    masks = torch.stack([face.labels == index for index in range(len(REGIONS))])
    controls = control_areas(face.labels.cpu().numpy().astype(np.uint8))
    ask = Asking(detector, face, target, tuple(fills), logits)
    areas = feathered(torch.cat([masks, torch.from_numpy(controls.masks).to(masks.device)]), face.iod)
    before, after = ask.untouched, ask.hidden(areas)
    there = masks.flatten(1).any(dim=1).cpu().numpy()
    with np.errstate(invalid="ignore"):  # of scores that are not finite
        gaps, own_gaps = before.scores - after.scores, before.own_scores - after.own_scores
    there &= np.isfinite(gaps[:, : len(REGIONS)]).all(axis=0)
    of_region = np.where(controls.of_region < 0, 0, controls.of_region + len(REGIONS))
    changed = by_most(after.called[:, : len(REGIONS)] != before.called) & there
    own = np.where(there, over_fills(own_gaps[:, : len(REGIONS)]), -np.inf)
    return Effects(
        fills=ask.fills,
        score=float(before.scores),
        values=np.where(there, gaps[:, : len(REGIONS)], np.nan),
        probabilities=np.where(
            there, (before.probabilities - after.probabilities)[:, : len(REGIONS)], np.nan
        ),
        controls=np.where(controls.of_region < 0, np.nan, gaps[:, of_region]),
        areas=masks.flatten(1).float().mean(dim=1).cpu().numpy(),
        flips=changed,
        flip_set=_flip_set(ask, areas[: len(REGIONS)], changed, own),
        uncontrolled=without_control(masks.cpu().numpy(), controls),
    )


def without_control(masks: NDArray[np.bool_], controls: Controls) -> NDArray[np.bool_]:
    """Which regions (R,) of masks (R, H, W) have no control area of at least half their size."""
    sizes = masks.sum(axis=(1, 2))
    discs = np.append(controls.masks.sum(axis=(1, 2)), 0)  # the last is that of the index -1: none
    return np.asarray(2 * discs[controls.of_region] < sizes)


def by_most(changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether (F, K) holds for more than half of the fills, (K,)."""
    return np.asarray(2 * changed.sum(axis=0) > len(changed))


def _flip_set(
    ask: Asking, areas: Tensor, changed: NDArray[np.bool_], own: FloatArray
) -> tuple[str, ...] | None:
    names, sizes = list(REGIONS), areas.flatten(1).sum(dim=1).cpu().numpy()
    if changed.any():
        return (names[min(np.flatnonzero(changed), key=lambda index: sizes[index])],)
    order = [k for k in np.argsort(-own, kind="stable") if own[k] > 0 and names[k] != BACKGROUND]

    falls = np.cumsum(own[order])
    guess = int(np.searchsorted(falls, ask.untouched.own_scores)) + 1  # as if effects added up
    low, high = (
        1,
        len(order) + 1,
    )  # the first `low` do not change the verdict, the first `high` do, or are too many
    while high - low > 1:
        count = min(max(guess, low + 1), high - 1)
        flips = ask.flips(areas[order[:count]].amax(dim=0))
        low, high = (low, count) if flips else (count, high)
    return tuple(names[k] for k in order[:high]) if high <= len(order) else None


class Asking:
    """Asks a detector about a face with parts of it hidden."""

    def __init__(
        self,
        detector: Detector,
        face: ShownFace,
        target: int,
        fills: tuple[str, ...],
        logits: Tensor | None = None,
    ) -> None:
        self.detector, self.face, self.target, self.fills = detector, face, target, fills
        logits = detector.logits(face.image[None]) if logits is None else logits
        self._own = int(detector.called(logits)[0])
        untouched = self._answers(logits)
        self.untouched = Answers(*(each[0] for each in vars(untouched).values()))

    @torch.inference_mode()
    def hidden(self, weights: Tensor) -> Answers:
        """The answers (F, K) for weights (K, H, W), by fill."""
        each = [self._answers(torch.cat(list(self._logits(weights, fill)))) for fill in self.fills]
        return Answers(
            *(np.stack(column) for column in zip(*(vars(one).values() for one in each), strict=True))
        )

    @torch.inference_mode()
    def flips(self, weights: Tensor) -> bool:
        """Whether hiding (H, W) changes the verdict under most fills; of no more than it takes to decide."""
        needed = len(self.fills) // 2 + 1
        changed = self._changed(weights, self.fills[:needed])
        if changed < needed and changed + len(self.fills) - needed >= needed:
            changed += self._changed(weights, self.fills[needed:])
        return changed >= needed

    def _changed(self, weights: Tensor, fills: Sequence[str]) -> int:
        """Under how many of the fills hiding (H, W) changes the verdict."""
        pictures = torch.cat([hide(self.face, weights[None], fill) for fill in fills])
        return sum(int((self.detector.called(logits) != self._own).sum()) for logits in self._shown(pictures))

    def _logits(self, weights: Tensor, fill: str) -> Iterator[Tensor]:
        for part in torch.split(weights, max(1, HIDDEN_AT_ONCE // weights[0].numel())):
            yield from self._shown(hide(self.face, part, fill))

    def _shown(self, pictures: Tensor) -> Iterator[Tensor]:
        for part in torch.split(pictures, at_once(self.detector, pictures)):
            yield self.detector.logits(part)

    def _answers(self, logits: Tensor) -> Answers:
        scores = class_scores(logits, len(logits)).double()
        probabilities = self.detector.probabilities(logits)
        return Answers(
            log_odds(scores, self.target),
            probabilities[:, self.target].double().cpu().numpy(),
            self.detector.called(logits).cpu().numpy(),
            log_odds(scores, self._own),
        )


def at_once(detector: Detector, pictures: Tensor) -> int:
    """How many of the pictures (N, 3, H, W) a detector is shown in one batch."""
    most = AT_ONCE["cpu" if detector.device.type == "cpu" else "other"]
    return max(1, most // (pictures.shape[-2] * pictures.shape[-1]))


def log_odds(scores: Tensor, index: int) -> FloatArray:
    """The log-odds (N,) of one of the classes, for scores (N, C); 0 where there is no other.

    Example:
        >>> log_odds(torch.tensor([[3.0, 1.0]]), 0)
        array([2.], dtype=float32)
    """
    if scores.shape[1] == 1:
        return np.zeros(len(scores))
    others = torch.cat([scores[:, :index], scores[:, index + 1 :]], dim=1)
    return np.asarray((scores[:, index] - others.logsumexp(dim=1)).cpu().numpy())
