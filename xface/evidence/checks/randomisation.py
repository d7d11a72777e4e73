"""Randomisation: does a map change when the network forgets what it learnt? (Adebayo et al. 2018)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from xface.evidence.checks.check import CHECKS, Check, Figure, Subject, Values, Words
from xface.results import FloatArray

WINDOW = 1.5  # sigma of SSIM's Gaussian window, in pixels


def spearman(first: Tensor, second: Tensor) -> FloatArray:
    """Spearman's correlation over pixels of each of K maps (K, H, W) with its other; NaN where undefined.

    Example:
        >>> import torch
        >>> spearman(torch.tensor([[[1.0, 2.0, 5.0]]]), torch.tensor([[[3.0, 4.0, 9.0]]]))
        array([1.])
    """
    return correlation(standings(first), standings(second))


def standings(maps: Tensor) -> FloatArray:
    """The ranks (K, pixels) of each map's pixels about their mean, with a norm of 1; NaN where undefined."""
    from scipy.stats import rankdata

    flat = maps.flatten(1).cpu().numpy()
    ranks = np.full(flat.shape, np.nan)
    defined = np.isfinite(flat).all(axis=1)
    ranks[defined] = rankdata(flat[defined], axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


def correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """The correlation of each row of `standings` with its other."""
    return np.asarray((first * second).sum(axis=1))


def ssim(first: Tensor, second: Tensor) -> FloatArray:
    """Structural similarity of each of K maps (K, H, W) with its other, both scaled to a maximum of 1.

    Example:
        >>> import torch
        >>> maps = torch.rand(1, 16, 16)
        >>> ssim(maps, 2 * maps).round(3)
        array([1.], dtype=float32)
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    scaled = [
        (each / each.flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-12))[:, None].float()
        for each in (first, second)
    ]
    found = structural_similarity_index_measure(
        scaled[0].nan_to_num(), scaled[1].nan_to_num(), sigma=WINDOW, data_range=1.0, reduction="none"
    )
    defined = (first + second).flatten(1).isfinite().all(dim=1)
    assert isinstance(found, Tensor)
    return np.where(defined.cpu().numpy(), found.reshape(-1).cpu().numpy(), np.float32(np.nan))


def randomisation(subject: Subject) -> Values:
    """The similarity of each map to that of the network made random down to each stage, and wholly."""
    count, image = subject.maps, subject.face.image[None]
    own = subject.amounts[:count]
    ranks = standings(own)
    found: dict[Figure, FloatArray] = {}
    for stage in subject.network.stages:
        last = stage == subject.network.stages[-1]
        other = subject.amounts[count : 2 * count] if last else subject.network.amounts(image, stage)[:, 0]
        similar = {
            "randomisation": correlation(ranks, standings(other)),
            "randomisation_ssim": ssim(own, other),
        }
        for name, alike in similar.items():
            values = np.full(len(subject), np.nan)
            values[:count] = alike
            found[Figure(name, "layer", stage)] = values
            found[Figure(name)] = values  # in the end, of the wholly random network
    return found


CHECKS.add(
    "randomisation",
    Check(
        randomisation,
        {
            "randomisation": Words(
                "similarity to the untrained network's map",
                "rank correlation, over pixels, with the map of the network with random weights; near 1 "
                "the map shows the picture and the architecture, not what was learnt",
                better="lower",
                limits=(-1, 1),
            ),
            "randomisation_ssim": Words(
                "structural similarity to the untrained network's map",
                "SSIM with the same map",
                "lower",
                (-1, 1),
            ),
        },
        source="Adebayo et al. 2018, arXiv:1810.03292; Sixt et al. 2020, arXiv:1912.09818",
        most=60,
    ),
)
