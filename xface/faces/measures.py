"""How much of a map lies in each region, and how that compares with chance.

Of a map A, its amount is |A|, for signed (C, H, W) maps the maximum over the channels; a map of another size
than the picture is upsampled bilinearly (pixel centres aligned, as PyTorch's `align_corners=False`). With R
a region and Omega all pixels:

    share = sum of the amount over R / sum over Omega      area = |R| / |Omega|      lift = share / area
    rank  = the part of the |R| highest pixels that lies in R
    peak  = the part of the map's maxima that lies in R

Pixels that tie count in proportion, so a constant map has lift 1 and rank = peak = area in every region.
`face_share` and `face_lift` are share and lift with Omega = all but the background. A zero or non-finite map
has no measures but the areas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xface.faces.regions import BACKGROUND, REGIONS
from xface.results import AttributionMap, ByteArray, FloatArray, RegionMeasure

COARSE_CELLS = 4  # a region below so many cells of the map's grid is coarse
MEASURES = ("share", "lift", "rank", "peak", "face_share", "face_lift")


def measure(amap: AttributionMap, labels: ByteArray) -> list[RegionMeasure]:
    """One row per region of `REGIONS`, in their order.

    Args:
        amap: the raw map, (C, H, W) or (h, w).
        labels: uint8 (H, W), from `region_labels`.

    Returns:
        The rows; None where a measure is undefined: everything but `area` and `coarse` for a map whose
        status is not ok, `lift` and `rank` for a region outside the picture, the face's measures for the
        background or where the face holds nothing. `coarse` marks a region smaller than 4 cells of the
        map's grid.

    Example:
        >>> labels = np.repeat(np.arange(len(REGIONS), dtype=np.uint8), 11).reshape(11, 11)
        >>> amap = AttributionMap("vanilla", None, "ok", "published", np.ones((3, 11, 11), np.float32))
        >>> row = measure(amap, labels)[0]
        >>> row.region, row.lift, row.coarse
        ('right_eye', 1.0, False)
    """
    height, width = amap.values.shape[-2:]
    counts = np.bincount(labels.ravel(), minlength=len(REGIONS))
    area, coarse = counts / labels.size, counts < COARSE_CELLS * labels.size / (height * width)
    columns = dict.fromkeys(MEASURES, np.full(len(REGIONS), np.nan))
    if amap.status == "ok":
        columns |= _columns(amap.amount((labels.shape[0], labels.shape[1])), labels, counts)
    return [
        RegionMeasure(
            method=amap.method,
            layer=amap.layer,
            region=region,
            area=float(area[index]),
            coarse=bool(coarse[index]),
            **{name: _defined(column[index]) for name, column in columns.items()},
        )
        for index, region in enumerate(REGIONS)
    ]


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _columns(amount: FloatArray, labels: ByteArray, counts: NDArray[np.intp]) -> dict[str, FloatArray]:
    sums = np.bincount(labels.ravel(), amount.ravel(), minlength=len(REGIONS))
    in_face = np.where(np.array(list(REGIONS)) == BACKGROUND, np.nan, 1.0)
    with np.errstate(invalid="ignore"):  # 0/0 is nan, which becomes None
        share, face_share = sums / sums.sum(), sums * in_face / np.nansum(sums * in_face)
        lift = share / (counts / counts.sum())
        face_lift = face_share / (counts * in_face / np.nansum(counts * in_face))
    rank, peak = _standings(amount.ravel(), labels.ravel(), counts)
    return dict(zip(MEASURES, (share, lift, rank, peak, face_share, face_lift), strict=True))


def _standings(
    amount: FloatArray, labels: ByteArray, counts: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Rank and peak of every region, all read from one sort of the map."""
    ascending = np.sort(amount)
    groups = np.split(amount[np.argsort(labels, kind="stable")], np.cumsum(counts)[:-1])
    rank, peak = np.full(len(counts), np.nan), np.zeros(len(counts))
    for index, (group, count) in enumerate(zip(groups, counts, strict=True)):
        if count == 0:
            continue
        rank[index] = _part_of_highest(group, ascending, int(count))
        peak[index] = _part_of_highest(group, ascending, 1)
    return rank, peak


def _part_of_highest(group: FloatArray, ascending: FloatArray, count: int) -> float:
    """The part of the `count` highest pixels that lies in `group`; ties for the last places share them."""
    threshold = ascending[-count]
    first, last = (
        np.searchsorted(ascending, threshold, "left"),
        np.searchsorted(ascending, threshold, "right"),
    )
    places = count - (len(ascending) - last)
    tied = np.count_nonzero(group == threshold) / (last - first)
    return float((np.count_nonzero(group > threshold) + places * tied) / count)
