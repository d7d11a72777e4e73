"""Manipulated pixels: does an answer lie where the picture was forged? (Baldassarre et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xface.evidence.checks.check import CHECKS, Check, Figure, Subject, Values, Words, per_answer
from xface.results import FloatArray


def pixel_auc(amounts: FloatArray, mask: NDArray[np.bool_]) -> float:
    """How often a manipulated pixel has more than another one, ties counting half.

    Example:
        >>> pixel_auc(np.array([[3.0, 1.0, 1.0]]), np.array([[True, True, False]]))
        0.75
    """
    from scipy.stats import rankdata

    inside = int(mask.sum())
    outside = mask.size - inside
    if not inside or not outside:
        return float("nan")
    ranks = rankdata(amounts.ravel())[mask.ravel()]
    return float((ranks.sum() - inside * (inside + 1) / 2) / (inside * outside))


def mask_lift(amounts: FloatArray, mask: NDArray[np.bool_]) -> float:
    """The mask's share of the amounts over its share of the area; 1 is chance.

    Example:
        >>> mask_lift(np.array([[3.0, 1.0]]), np.array([[True, False]]))
        1.5
    """
    total = amounts.sum(dtype=np.float64)
    return float(amounts[mask].sum(dtype=np.float64) / total / mask.mean()) if total > 0 else float("nan")


def pointing(amounts: FloatArray, mask: NDArray[np.bool_]) -> float:
    """The part of the maxima that lies in the mask: 1 or 0, but for ties."""
    return float(mask[amounts == amounts.max()].mean())


def mask_iou(amounts: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Intersection over union of the mask with as many of the highest pixels; those that tie count in part.

    Example:
        >>> mask_iou(np.array([[3.0, 1.0, 1.0]]), np.array([[True, True, False]]))
        0.6
    """
    count = int(mask.sum())
    threshold = np.partition(amounts.ravel(), -count)[-count]
    over, tied = amounts > threshold, amounts == threshold
    part = (count - over.sum()) / tied.sum()
    common = (mask & over).sum() + part * (mask & tied).sum()
    return float(common / (2 * count - common))


MEASURES = {"pixel_auc": pixel_auc, "pixel_lift": mask_lift, "pointing_game": pointing, "pixel_iou": mask_iou}


def manipulated_pixels(subject: Subject) -> Values:
    """Each measure of each answer, where the mask is known and neither empty nor the whole picture."""
    mask = subject.mask
    if mask is None or not 0 < mask.sum() < mask.size:
        return {}
    amounts = subject.amounts.cpu().numpy().astype(np.float64)
    return {
        Figure(name): per_answer(subject, lambda k, measure=measure: measure(amounts[k], mask))  # type: ignore[misc]
        for name, measure in MEASURES.items()
    }


CHECKS.add(
    "manipulated_pixels",
    Check(
        manipulated_pixels,
        {
            "pixel_auc": Words(
                "pixel AUC",
                "how often a manipulated pixel has more than another; 0.5 is chance",
                limits=(0, 1),
                ranks=True,
            ),
            "pixel_lift": Words(
                "lift on the mask", "the mask's share of the map over its share of the area; 1 is chance"
            ),
            "pointing_game": Words(
                "pointing game",
                "how often the highest pixel is a manipulated one",
                limits=(0, 1),
                percent=True,
            ),
            "pixel_iou": Words(
                "IoU", "overlap of the mask with as many of the highest pixels", limits=(0, 1)
            ),
        },
        source="Baldassarre et al. 2022, arXiv:2210.03683",
        of="mask",
    ),
)
