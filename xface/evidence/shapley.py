"""Shapley values of a face's regions (Lundberg and Lee 2017): a fair division of the score among them.

With v(S) the score of the picture in which the regions of S are visible and the other regions of the face are
hidden, n regions in all, the value of region R is the mean, over all orders in which regions can be shown, of
what showing R adds:

    phi_R = sum over S without R of |S|! (n - |S| - 1)! / n! * (v(S and R) - v(S))

The values sum to the score of the picture less that with all regions hidden. The background is always
visible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xface.detectors.detector import Detector
from xface.evidence.effects import Asking
from xface.evidence.hiding import ShownFace, feathered
from xface.faces.regions import BACKGROUND, REGIONS
from xface.results import FloatArray

FILL = "blur"
EXACT = 10  # regions: up to so many, all sets of them are asked for where a GPU computes
ORDERS = 32  # that are drawn where not all sets are asked for
SEED = 0
AT_ONCE = 64  # sets of regions whose areas are held at once

Players = NDArray[np.bool_]
Game = Callable[[Players], FloatArray]
"""Coalitions (K, n), True for what is visible, to their scores (K,)."""


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """Each region's value (R,) in logits, NaN for the background and for regions outside the picture.

    `errors` (R,) are standard errors of sampled values, 0 of exact ones. `total` is the score of the picture
    less that with all regions of the face hidden: the sum of the values.
    """

    values: FloatArray = field(repr=False)
    errors: FloatArray = field(repr=False)
    total: float
    exact: bool


def shapley_values(
    detector: Detector,
    face: ShownFace,
    target: int,
    exact: bool | None = None,
    logits: Tensor | None = None,
) -> ShapleyValues:
    """The Shapley value of each region of a face for the score of a class, regions hidden by `blur`.

    Args:
        detector: the detector.
        face: what it is shown.
        target: the index of the class whose score, its log-odds, is divided.
        exact: ask for all sets of regions (2 ** n pictures), or draw 32 orders (at most 32 n); None is exact
            on a GPU for at most 10 regions.
        logits: what the network says of the untouched picture, if it was asked already.

    Example:
        >>> from xface.detectors.loading import load
        >>> labels = torch.full((64, 64), list(REGIONS).index("background"))
        >>> labels[20:40, 20:40] = list(REGIONS).index("nose")
        >>> face = ShownFace(torch.rand(3, 64, 64), labels, iod=16.0)
        >>> found = shapley_values(load("none", arch="resnet18"), face, target=0, exact=True)
        >>> bool(np.isclose(np.nansum(found.values), found.total))
        True
    """
    background = list(REGIONS).index(BACKGROUND)
    there = (k for k in range(len(REGIONS)) if k != background)
    players = [k for k in there if bool((face.labels == k).any())]
    if not players:
        return ShapleyValues(np.full(len(REGIONS), np.nan), np.full(len(REGIONS), np.nan), 0.0, True)
    weights = feathered(torch.stack([face.labels == k for k in players]), face.iod)
    ask = Asking(detector, face, target, (FILL,), logits)

    def game(visible: Players) -> FloatArray:
        parts = (visible[start : start + AT_ONCE] for start in range(0, len(visible), AT_ONCE))
        return np.concatenate([ask.hidden(_joint(weights, ~part)).scores[0] for part in parts])

    if exact is None:
        exact = detector.device.type != "cpu" and len(players) <= EXACT
    found, errors, total = (exact_values if exact else sampled_values)(game, len(players))
    values, spreads = np.full((2, len(REGIONS)), np.nan)
    values[players], spreads[players] = found, errors
    return ShapleyValues(values, spreads, total, exact)


def _joint(weights: Tensor, hidden: Players) -> Tensor:
    """How far each pixel is hidden (K, H, W), for areas (n, H, W) of which some, `hidden` (K, n), are."""
    none = torch.zeros_like(weights[0])
    return torch.stack([weights[torch.from_numpy(row)].amax(dim=0) if row.any() else none for row in hidden])


def exact_values(game: Game, n: int) -> tuple[FloatArray, FloatArray, float]:
    """The Shapley values of n players from all coalitions, errors of 0, and the sum of the values.

    Example:
        >>> exact_values(lambda shown: shown @ [1.0, 2.0] + 4.0 * shown.all(axis=1), 2)[0].tolist()
        [3.0, 4.0]
    """
    numbers = np.arange(2**n)
    visible = (numbers[:, None] >> np.arange(n) & 1).astype(bool)
    scores, sizes = game(visible), visible.sum(axis=1)
    weights = np.array([factorial(size) * factorial(n - size - 1) / factorial(n) for size in range(n)])
    values = np.zeros(n)
    for player in range(n):
        without = numbers[~visible[:, player]]
        values[player] = weights[sizes[without]] @ (scores[without | 1 << player] - scores[without])
    return values, np.zeros(n), float(scores[-1] - scores[0])


def sampled_values(game: Game, n: int, orders: int = ORDERS) -> tuple[FloatArray, FloatArray, float]:
    """The same from orders drawn at random (Castro et al. 2009), each beside its reverse; and standard
    errors.

    Each order's contributions sum to the total, and so do their means. An order and its reverse count as one
    draw for the error.
    """
    rng = np.random.default_rng(SEED)
    drawn = [rng.permutation(n) for _ in range(orders // 2)]
    ranks = np.array([np.argsort(each) for order in drawn for each in (order, order[::-1])]).reshape(
        orders, n
    )
    visible = ranks[:, None, :] < np.arange(n + 1)[:, None]  # after each step of each order
    states, back = np.unique(visible.reshape(-1, n), axis=0, return_inverse=True)
    scores = game(states)[back.ravel()].reshape(orders, n + 1)
    added = np.take_along_axis(np.diff(scores, axis=1), ranks, axis=1)
    pairs = added.reshape(orders // 2, 2, n).mean(axis=1)
    errors = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
    return added.mean(axis=0), errors, float(scores[0, -1] - scores[0, 0])
