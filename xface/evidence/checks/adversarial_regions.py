"""Adversarial regions: how often the verdict flips where an answer's first regions are attacked (NES).

Tsigos et al. 2024 (arXiv:2404.18649) attack the top 1, 2 and 3 segments by natural evolution strategies. Here
segments are the regions of the face, and the noise is drawn in tiles of 8 pixels, for which far fewer queries
do: at most 35 for each set of regions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xface.evidence.checks.check import CHECKS, Check, Figure, Subject, Values, Words, face_regions
from xface.faces.regions import REGIONS

TOP = (1, 2, 3)
STEPS, PAIRS = 5, 3
QUERIES = STEPS * (2 * PAIRS + 1)
"""For each set of regions, at most."""

TILE = 8  # pixels
BOUND, STEP, SPREAD = 16, 8, 4
"""Greatest change, change of each step, and standard deviation of the noise, in levels of 255."""


def adversarial_regions(subject: Subject) -> Values:
    """Whether the verdict flips by attacking the first 1, 2 and 3 regions of each answer.

    Only pictures that are called forged are attacked. Whatever flips by some of its regions flips by all.
    """
    if not subject.score > subject.network.boundary:  # nor if it is undefined
        return {}
    sets = [[frozenset(row[:top]) for row in _first_regions(subject)] for top in TOP]
    flipped: dict[frozenset[int], bool] = {frozenset(): False}
    for answers in sets:
        new = [each for each in dict.fromkeys(answers) if each not in flipped]
        implied = {each: any(flipped[part] for part in flipped if part < each) for each in new}
        left = [each for each in new if not implied[each]]
        flipped |= implied | dict(zip(left, _attacked(subject, left), strict=True))
    defined = np.isfinite(subject.ranks).any(axis=1)
    return {
        Figure(f"adversarial_{top}"): np.where(defined, [float(flipped[each]) for each in answers], np.nan)
        for top, answers in zip(TOP, sets, strict=True)
    }


def _first_regions(subject: Subject) -> list[list[int]]:
    """The regions of each answer, as numbers in `REGIONS`, those that it ranks highest first."""
    numbers = [list(REGIONS).index(name) for name in face_regions()]
    known = np.where(np.isfinite(subject.ranks), subject.ranks, -np.inf)
    rows = np.argsort(-known, axis=1, kind="stable")
    return [
        [numbers[place] for place in row if np.isfinite(own[place])]
        for row, own in zip(rows, subject.ranks, strict=True)
    ]


def _attacked(subject: Subject, sets: Sequence[frozenset[int]]) -> list[bool]:
    """Whether attacking each set of regions flips the verdict: all are attacked side by side."""
    if not sets:
        return []
    image, network = subject.face.image, subject.network
    masks = torch.stack(
        [torch.isin(subject.face.labels, torch.tensor(sorted(each)).to(subject.face.labels)) for each in sets]
    )
    black, level = _levels(subject)
    generator = torch.Generator().manual_seed(subject.seed)
    change = torch.zeros(len(sets), *image.shape, device=image.device)
    flipped = np.zeros(len(sets), bool)
    for _ in range(STEPS):
        left = torch.from_numpy(np.flatnonzero(~flipped)).to(image.device)
        if not len(left):
            break
        slope = _slope(subject, change[left], masks[left], level, generator)
        moved = change[left] - STEP * level * slope.sign() * masks[left, None]
        change[left] = torch.minimum(torch.maximum(moved, -BOUND * level), BOUND * level)
        attacked = torch.minimum(torch.maximum(image + change[left], black), black + 255 * level)
        flipped[left.cpu().numpy()] = network.scores(attacked) <= network.boundary
    return [bool(each) for each in flipped]


def _levels(subject: Subject) -> tuple[Tensor, Tensor]:
    """Black, and one level of 255, of each channel of prepared pixels, (3, 1, 1)."""
    shade = [subject.network.prepared(np.full((1, 1, 3), each, np.uint8)) for each in (0, 255)]
    black, white = (each.to(subject.face.image.device) for each in shade)
    return black, (white - black) / 255


def _slope(
    subject: Subject, change: Tensor, masks: Tensor, level: Tensor, generator: torch.Generator
) -> Tensor:
    """In which direction the score rises, (S, 3, H, W), from pairs of opposite noise in tiles."""
    size = (change.shape[2], change.shape[3])
    tiles = (-(-size[0] // TILE), -(-size[1] // TILE))
    found = torch.zeros_like(change)
    for _ in range(PAIRS):
        drawn = torch.randn(1, 3, *tiles, generator=generator).to(change.device)
        noise = F.interpolate(drawn, scale_factor=TILE, mode="nearest")[..., : size[0], : size[1]]
        step = SPREAD * level * noise * masks[:, None]
        both = torch.cat([subject.face.image + change + step, subject.face.image + change - step])
        up, down = np.split(subject.network.scores(both), 2)
        found += torch.from_numpy(up - down).to(change)[:, None, None, None] * noise
    return found


CHECKS.add(
    "adversarial_regions",
    Check(
        adversarial_regions,
        {
            f"adversarial_{top}": Words(
                f"flips by attacking its first {top}" if top > 1 else "flips by attacking its first region",
                f"how often the verdict on a picture called forged flips where {top} region{'s' * (top > 1)} "
                f"{'are' if top > 1 else 'is'} attacked: {BOUND} of 255 levels and {QUERIES} queries at most",
                limits=(0, 1),
                percent=True,
            )
            for top in TOP
        },
        source="Tsigos et al. 2024, arXiv:2404.18649",
        most=20,
    ),
)
