"""Examining: what every answerer says of a picture, held against all checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xface.evidence.baselines import BASELINES
from xface.evidence.checks import CHECKS, Check, Figure, Subject
from xface.evidence.checks.check import face_regions
from xface.evidence.checks.partial_swap import LEAST_RISE
from xface.evidence.effects import over_fills
from xface.evidence.hiding import COUNTERPART, NEUTRAL, ShownFace, feathered, hide
from xface.evidence.trust.network import AskedNetwork
from xface.evidence.trust.reading import ReadCase
from xface.faces.regions import REGIONS
from xface.results import FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS

MOST_SWAPS = 2
"""Of a pair, drawn at random of those that raise the score enough."""

QUICK = 4
"""Times fewer pictures get the costly checks in a quick run, which leaves out those that get too few."""


@dataclass(frozen=True, eq=False)
class Finding:
    """One figure of one subject, `values` (A,) (NaN: undefined); `swap` numbers a case's swaps, or is -1."""

    place: int
    swap: int
    figure: Figure
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Examiner:
    """Asks a network, all baselines and the region effects about cases, and holds the answers against checks.

    Args:
        network: the network.
        asks_of_made: whether checks of forged pictures ask of those that were made here.
        quick: whether the costly checks are made on fewer pictures, or not at all.
    """

    network: AskedNetwork
    asks_of_made: bool = False
    quick: bool = False

    def __call__(self, cases: Sequence[tuple[int, ReadCase]]) -> Iterator[Finding]:
        """The findings on cases of one size, each with its place among all; they all have a face."""
        items = [self._placed(read) for _, read in cases]
        subjects = self._subjects(items)
        for (place, read), subject in zip(cases, subjects, strict=True):
            yield from self._checked(place, -1, subject, self._checks_of(read))
        pasted = [(place, *swap) for (place, read), item in zip(cases, items, strict=True)
                  for swap in enumerate(self._swaps(read, item))]  # fmt: skip
        swapped = self._subjects([subject for *_, subject in pasted])
        for (place, number, _), subject in zip(pasted, swapped, strict=True):
            yield from self._checked(place, number, subject, self._checks("swap"))

    def _placed(self, read: ReadCase) -> Asked:
        assert read.face is not None
        face, device = read.face, self.network.detector.device
        on_device = replace(
            face,
            image=face.image.to(device),
            labels=face.labels.to(device),
            counterpart=None if face.counterpart is None else face.counterpart.to(device),
        )
        return Asked(on_device, read.case.seed, read.mask)

    def _checks(self, *kinds: str) -> list[Check]:
        return [check for check in CHECKS.values() if check.of in kinds]

    def _checks_of(self, read: ReadCase) -> list[Check]:
        """Those that ask of a case's picture."""
        if read.case.made and not self.asks_of_made:
            return self._checks("mask")
        return [check for check in self._checks("picture", "mask") if self._reaches(check, read.case.place)]

    def _reaches(self, check: Check, place: int) -> bool:
        if check.most is None:
            return True
        most = check.most // QUICK if self.quick else check.most
        return place < most and most >= LEAST_GROUPS

    def _checked(self, place: int, swap: int, subject: Subject, checks: Sequence[Check]) -> Iterator[Finding]:
        for check in checks:
            for figure, values in check.compute(subject).items():
                yield Finding(place, swap, Figure(*figure), np.asarray(values, np.float64))

    def _subjects(self, items: Sequence[Asked]) -> list[Subject]:
        """What all say of pictures of one size."""
        if not items:
            return []
        images = torch.stack([item.face.image for item in items])
        last = self.network.stages[-1]
        scores = self.network.scores(images)
        maps = torch.cat([self.network.amounts(images), self.network.amounts(images, last)])
        return [self._subject(item, float(scores[place]), maps[:, place]) for place, item in enumerate(items)]

    def _subject(self, item: Asked, score: float, maps: Tensor) -> Subject:
        face = item.face
        masks = region_masks(face)
        effects = self._effects(face, masks, score)
        own = [make(face, item.seed) for make in BASELINES.values()]
        amounts = torch.cat([maps, torch.stack([*own, _spread(effects, masks)]).to(maps)])
        shares, per_area = region_shares(amounts, masks)
        shares[-1], per_area[-1] = np.nan, effects
        return Subject(
            face, self.network, score, amounts, per_area, shares, effects, len(maps) // 2,
            item.mask, item.pasted, item.rise, item.seed,
        )  # fmt: skip

    def _effects(self, face: ShownFace, masks: Tensor, score: float) -> FloatArray:
        """The effect of hiding each region, (R,): the mean over the fills that need the face alone."""
        areas = feathered(masks, face.iod)
        hidden = np.stack([self.network.scores(hide(face, areas, fill)) for fill in NEUTRAL])
        there = masks.flatten(1).any(dim=1).cpu().numpy()
        return np.where(there, over_fills(score - hidden), np.nan)

    def _swaps(self, read: ReadCase, item: Asked) -> list[Asked]:
        """Real faces with one region pasted from the forgery, which raised the score enough; some of them."""
        forged = item.face
        if forged.counterpart is None:
            return []
        real = replace(forged, image=forged.counterpart, counterpart=forged.image)
        masks = region_masks(real)
        pictures = hide(real, feathered(masks, real.iod), COUNTERPART)
        scores = self.network.scores(torch.cat([real.image[None], pictures]))
        rises = np.where(masks.flatten(1).any(dim=1).cpu().numpy(), scores[1:] - scores[0], 0.0)
        order = np.random.default_rng((read.case.seed, 1)).permutation(len(rises))
        chosen = sorted([k for k in order if rises[k] >= LEAST_RISE][:MOST_SWAPS])
        return [
            Asked(replace(real, image=pictures[k]), item.seed, None, face_regions()[k], float(rises[k]))
            for k in chosen
        ]


@dataclass(frozen=True, eq=False)
class Asked:
    """A picture to ask about, and what is known of it; see `Subject`."""

    face: ShownFace
    seed: int
    mask: np.ndarray | None = None
    pasted: str | None = None
    rise: float = float("nan")


def region_masks(face: ShownFace) -> Tensor:
    """The pixels (R, H, W) of each region of the face but the background."""
    names = list(REGIONS)
    return torch.stack([face.labels == names.index(name) for name in face_regions()])


def region_shares(amounts: Tensor, masks: Tensor) -> tuple[FloatArray, FloatArray]:
    """What part of each of A amounts (A, H, W) lies in each of R masks (R, H, W), and that per area: (A, R).

    Example:
        >>> masks = torch.tensor([[[True, False, False, False]]])
        >>> [each.tolist() for each in region_shares(torch.tensor([[[3.0, 1.0, 1.0, 1.0]]]), masks)]
        [[[0.5]], [[2.0]]]
    """
    flat, areas = amounts.flatten(1).double(), masks.flatten(1).double()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = ((flat @ areas.T) / flat.sum(dim=1, keepdim=True)).cpu().numpy()
        per_area = shares / areas.mean(dim=1).cpu().numpy()
    return shares, np.where(np.isfinite(per_area), per_area, np.nan)


def _spread(effects: FloatArray, masks: Tensor) -> Tensor:
    """Each region's effect, as far as it speaks for the class, over its pixels alike: (H, W)."""
    areas = masks.flatten(1).sum(dim=1).clamp(min=1).cpu().numpy()
    density = torch.from_numpy(np.nan_to_num(effects).clip(min=0) / areas).to(masks.device)
    return (density[:, None, None] * masks).sum(dim=0)
