"""How much of a map lies in each region, and how that compares with chance: for N images and K maps at once.

Of a map A, its amount is |A|, for signed (C, H, W) maps the maximum over the channels; a map of another size
than the picture is upsampled bilinearly (pixel centres aligned, as PyTorch's `align_corners=False`). With R
a region and Omega all pixels:

    share = sum of the amount over R / sum over Omega      area = |R| / |Omega|      lift = share / area
    rank  = the part of the |R| highest pixels that lies in R
    peak  = the part of the map's maxima that lies in R

Pixels that tie count in proportion, so a constant map has lift 1 and rank = peak = area in every region.
`face_share` and `face_lift` are share and lift with Omega = all but the background. A zero or non-finite map
has no measures but the areas.

All sums of a batch are one matrix product, amounts (K, pixels) x one-hot labels (pixels, regions), image by
image; a map of ones gives the regions' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xface.faces.regions import BACKGROUND, REGIONS
from xface.results import AttributionMap, ByteArray, FloatArray, RegionMeasure

COARSE_CELLS = 4  # a region below so many cells of the map's grid is coarse
SHARES = ("share", "lift", "face_share", "face_lift")
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
    return measure_all([amap], labels)


def measure_all(maps: Sequence[AttributionMap], labels: ByteArray) -> list[RegionMeasure]:
    """The rows of several maps of one image, map by map, as `measure` gives them; `labels` are (H, W)."""
    columns, area, coarse = _columns(maps, labels) if maps else ({}, np.empty(0), np.empty(0))
    return [
        RegionMeasure(
            method=amap.method,
            layer=amap.layer,
            region=region,
            area=float(area[index]),
            coarse=bool(coarse[place, index]),
            **{
                name: float(column[place, index]) if np.isfinite(column[place, index]) else None
                for name, column in columns.items()
            },
        )
        for place, amap in enumerate(maps)
        for index, region in enumerate(REGIONS)
    ]


def _columns(
    maps: Sequence[AttributionMap], labels: ByteArray
) -> tuple[dict[str, FloatArray], FloatArray, NDArray[np.bool_]]:
    """The measures (K, R) of the maps of one image, as of a batch of one; area (R,); coarse (K, R)."""
    batch, size, count = torch.from_numpy(labels)[None], (labels.shape[0], labels.shape[1]), len(maps)
    well = np.array([amap.status == "ok" for amap in maps])[:, None]
    arrays = [amap.amount(size) if amap.status == "ok" else np.zeros(size) for amap in maps]
    amounts = [torch.from_numpy(array).double()[None] for array in arrays]
    masks = RegionMasks()(batch, amounts[0])
    pixels = masks.sum(dim=2)
    tops = [standings(each, batch, pixels) for each in amounts]
    sums = region_sums([*amounts, *(top for top, _ in tops), *(peak for _, peak in tops)], masks).numpy()
    own, ranked, peaks, sizes = np.split(sums, [count, 2 * count, 3 * count], axis=1)
    shares, area, coarse = region_shares(np.concatenate([own, sizes], axis=1), [m.values.shape for m in maps])
    with np.errstate(invalid="ignore"):
        columns = [*np.moveaxis(shares[0], 2, 0), (ranked / sizes)[0], _parts(peaks)[0]]
    named = zip((*SHARES, "rank", "peak"), columns, strict=True)
    return {name: np.where(well, column, np.nan) for name, column in named}, area[0], coarse[0]


def amount(maps: Tensor) -> Tensor:
    """|A| (N, h, w) of a batch of maps: of signed (N, C, h, w) the maximum over the channels."""
    return maps.abs().amax(dim=1) if maps.ndim == 4 else maps.abs()


def resized(amounts: Tensor, size: tuple[int, int]) -> Tensor:
    """Amounts (N, h, w) at the size of the network's input, (N, H, W), as `AttributionMap.amount` has it."""
    if amounts.shape[1:] == size:
        return amounts
    return F.interpolate(amounts[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


class RegionMasks:
    """Region labels as ones and zeros, for batch after batch.

    They are written into the same memory again: on a CPU, new memory would cost several times as much as the
    sums themselves.
    """

    def __init__(self) -> None:
        self._masks = torch.empty(0)

    def __call__(self, labels: Tensor, like: Tensor) -> Tensor:
        """Masks (N, R, pixels) of labels (N, H, W), of the device and type of a tensor; 255 is no region."""
        flat = labels.to(like.device).flatten(start_dim=1)[:, None]
        regions = torch.arange(len(REGIONS), dtype=torch.uint8, device=like.device)[:, None]
        shape = (len(labels), len(REGIONS), flat.shape[2])
        if (self._masks.shape, self._masks.dtype) != (shape, like.dtype):
            self._masks = like.new_empty(shape)
        return torch.eq(flat, regions, out=self._masks)


def region_sums(amounts: Sequence[Tensor], masks: Tensor) -> Tensor:
    """The sums (N, K + 1, R) of K amounts (N, H, W) by region; the last are the regions' sizes.

    Example:
        >>> masks = RegionMasks()(torch.tensor([[[0, 0, 2]]], dtype=torch.uint8), torch.ones(1))
        >>> region_sums([torch.tensor([[[1.0, 2.0, 4.0]]])], masks)[0, :, :3].tolist()
        [[3.0, 0.0, 4.0], [2.0, 0.0, 1.0]]
    """
    stacked = torch.stack([*amounts, torch.ones_like(amounts[0])], dim=1)
    return stacked.flatten(start_dim=2) @ masks.mT


def region_shares(
    sums: FloatArray, shapes: Sequence[Sequence[int]]
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """What K maps of N images hold in R regions: the columns of `SHARES`, area, and whether it is coarse.

    Args:
        sums: (N, K + 1, R), from `region_sums`.
        shapes: (..., h, w) of each raw map.

    Returns:
        (N, K, R, 4) and (N, R), NaN where undefined, and (N, K, R), False for an image without regions.
    """
    amounts, sizes = sums[:, :-1].astype(np.float64), sums[:, -1:].astype(np.float64)
    in_face = np.array([np.nan if name == BACKGROUND else 1.0 for name in REGIONS])
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 is nan: undefined
        share, area = _parts(amounts), _parts(sizes)
        face_share, face_area = _parts(amounts * in_face), _parts(sizes * in_face)
        columns = np.stack([share, share / area, face_share, face_share / face_area], axis=3)
    cells = np.array([shape[-2] * shape[-1] for shape in shapes])[:, None]
    coarse = sizes < COARSE_CELLS * sizes.sum(axis=2, keepdims=True) / cells
    return np.where(np.isfinite(columns), columns, np.nan), area[:, 0], coarse


def _parts(values: FloatArray) -> FloatArray:
    return np.asarray(values / np.nansum(values, axis=2, keepdims=True))


def standings(amounts: Tensor, labels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """What each pixel of amounts (N, H, W) is of the highest ones, and of the highest of all.

    The highest ones are as many as its region, of labels (N, H, W), has pixels by `sizes` (N, R). Pixels that
    tie for the last places share them. Each map is sorted once: by NumPy, ten times as fast as torch.
    """
    flat, own = amounts.flatten(start_dim=1), labels.flatten(start_dim=1).long()
    ascending, count = torch.from_numpy(np.sort(flat.numpy(), axis=1)), flat.shape[1]
    threshold = ascending.gather(1, (count - sizes.long()).clamp(max=count - 1))
    lower = torch.searchsorted(ascending, threshold)
    upper = torch.searchsorted(ascending, threshold, right=True)
    of_tied = (sizes - count + upper) / (upper - lower)  # of each, the places that are left
    at = threshold.gather(1, own)
    highest = torch.where(flat == at, of_tied.gather(1, own), (flat > at).to(flat.dtype))
    maxima = (flat == ascending[:, -1:]).to(flat.dtype)
    return highest.reshape(amounts.shape), maxima.reshape(amounts.shape)
