"""Measured maps: a batch explained, and its maps summed up by region, on the detector's device.

With |A| the amount of a map at the size of the network's input and L its one-hot region labels, all sums of
a batch are one matrix product, |A| (kinds, pixels) x L (pixels, regions), image by image; a map of ones gives
the regions' sizes. Shares and lifts then are as in `xface.faces.measures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xface.analysis.stopwatch import Stopwatch
from xface.attribution import Maps, attribute
from xface.attribution.maps import Key
from xface.attribution.targets import Targets
from xface.detectors.detector import Detector
from xface.errors import XFaceError
from xface.evaluation.scoring import positive_scores
from xface.faces import REGIONS
from xface.faces.measures import COARSE_CELLS
from xface.faces.regions import BACKGROUND
from xface.results import ByteArray, FloatArray

GRID_SIDE = 28
NO_FACE = "no_face"
MEASURED = ("share", "lift", "face_share", "face_lift")

Request = tuple[Targets, Sequence[str] | None, Sequence[str]]
"""Targets, methods and layers, as `xface.explanation.checked` gives them."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A map's amount, small enough to be kept: (h, w) uint8, of which 255 stands for `peak`."""

    values: ByteArray = field(repr=False)
    peak: float


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """What the network says of one image, and what its maps hold, for K kinds of maps and R regions.

    `score` is the positive class's probability, NaN with a `reason`. `statuses` has `ok`, `zero`,
    `non_finite` or `no_face` per kind; `measures` (K, R, 4) the columns of `MEASURED`, NaN unless ok; `area`
    (R,) and `coarse` (K, R) are the regions'. `grids` are None for maps that are not defined, `maps` are the
    raw ones, if they are to be kept.
    """

    score: float
    reason: str
    statuses: tuple[str, ...]
    measures: FloatArray = field(repr=False)
    area: FloatArray = field(repr=False)
    coarse: NDArray[np.bool_] = field(repr=False)
    grids: tuple[Grid | None, ...] = field(repr=False)
    maps: tuple[FloatArray, ...] = field(default=(), repr=False)


class MapMeasurer:
    """Explains batches and measures their maps; a batch that does not fit into memory is halved.

    The smaller size is kept for the batches that follow.

    Args:
        detector: whose maps; its positive class must be known.
        request: targets, methods and layers.
        keep_maps: whether the raw maps are wanted.
        watch: gets the seconds of `attribution` and `regions`.
    """

    def __init__(
        self, detector: Detector, request: Request, keep_maps: bool = False, watch: Stopwatch | None = None
    ) -> None:
        self.detector, self.request, self.keep_maps = detector, request, keep_maps
        self.most: int | None = None
        self.watch, self.sum_up = watch or Stopwatch(), RegionSums()

    def __call__(self, images: Tensor, labels: Tensor) -> list[MeasuredImage]:
        """One result per image, for tensors (N, 3, H, W) and region labels (N, H, W); 255 is no region.

        Raises:
            XFaceError: not even one image fits into memory. AttributionError: as `attribute`.
        """
        found: list[MeasuredImage] = []
        while len(found) < len(images):
            part = slice(len(found), len(found) + (self.most or len(images)))
            try:
                found += self._measured(images[part], labels[part])
                continue
            except torch.OutOfMemoryError as error:
                reason = str(error)
            # only now, without the error's frames, is the batch's memory free
            self.most = self._halved(len(images[part]), reason)
        return found

    def _halved(self, size: int, reason: str) -> int:
        if size == 1:
            raise XFaceError(
                f"one image alone does not fit into the memory of {self.detector.device} "
                f"({reason.partition('. ')[0]}); ask for fewer methods or layers at once, or use --device cpu"
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return (size + 1) // 2

    def _measured(self, images: Tensor, labels: Tensor) -> list[MeasuredImage]:
        device = self.detector.device
        with self.watch("attribution"):
            maps = attribute(self.detector.model, images.to(device), *self.request)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        with self.watch("regions"):
            return measured(maps, labels, self.detector, self.sum_up, self.keep_maps)


def measured(
    maps: Maps, labels: Tensor, detector: Detector, sum_up: RegionSums, keep_maps: bool = False
) -> list[MeasuredImage]:
    """The score and the measures of each image of a batch, from its maps and region labels (N, H, W)."""
    size = (labels.shape[1], labels.shape[2])
    natural = [amount(tensor) for tensor in maps.values()]
    amounts = [resized(each, size) for each in natural]
    sums = sum_up(amounts, labels).cpu().double().numpy()
    counts = sums[:, -1]
    cells = np.array([tensor.shape[-2] * tensor.shape[-1] for tensor in maps.values()])[:, None]
    grids = [_grids(each, maps.status[key]) for key, each in zip(maps, natural, strict=True)]
    kept = [tensor.cpu().numpy() for tensor in maps.values()] if keep_maps else []
    scores = positive_scores(detector, maps.output.reshape(len(labels), -1))
    statuses = [_statuses(maps, place, counts[place].any()) for place in range(len(labels))]
    return [
        MeasuredImage(
            *scores[place],
            statuses[place],
            _measures(sums[place, :-1], counts[place], np.array(statuses[place]) == "ok"),
            counts[place] / labels[place].numel() if counts[place].any() else np.full(len(REGIONS), np.nan),
            counts[place].any() & (counts[place] < COARSE_CELLS * labels[place].numel() / cells),
            tuple(each[place] for each in grids),
            tuple(each[place] for each in kept),
        )
        for place in range(len(labels))
    ]


def amount(tensor: Tensor) -> Tensor:
    """|A| (N, h, w) of a batch of maps: of signed (N, C, h, w) the maximum over the channels."""
    return tensor.abs().amax(dim=1) if tensor.ndim == 4 else tensor.abs()


def resized(amounts: Tensor, size: tuple[int, int]) -> Tensor:
    """Amounts (N, h, w) at the size of the network's input, (N, H, W), as `AttributionMap.amount` has it."""
    if amounts.shape[1:] == size:
        return amounts
    return F.interpolate(amounts[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


class RegionSums:
    """Sums of amounts by region, for batch after batch.

    The one-hot labels are written into the same memory again: on a CPU, new memory would cost several times
    as much as the product itself.

    Example:
        >>> labels = torch.tensor([[[0, 0, 2]]], dtype=torch.uint8)
        >>> RegionSums()([torch.tensor([[[1.0, 2.0, 4.0]]])], labels)[0, :, :3].tolist()
        [[3.0, 0.0, 4.0], [2.0, 0.0, 1.0]]
    """

    def __init__(self) -> None:
        self._one_hot = torch.empty(0)

    def __call__(self, amounts: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The sums (N, K + 1, R) of K amounts (N, H, W) in R regions; the last are the regions' sizes."""
        stacked = torch.stack([*amounts, torch.ones_like(amounts[0])], dim=1).flatten(start_dim=2)
        shape = (len(labels), len(REGIONS), stacked.shape[2])
        if self._one_hot.shape != shape:
            self._one_hot = torch.empty(shape, device=stacked.device)
        regions = torch.arange(len(REGIONS), dtype=torch.uint8, device=stacked.device)[:, None]
        torch.eq(labels.to(stacked.device).flatten(start_dim=1)[:, None], regions, out=self._one_hot)
        return stacked @ self._one_hot.transpose(1, 2)


def _statuses(maps: Maps, place: int, has_face: bool) -> tuple[str, ...]:
    """A map's own status, or that it is defined but there is no face to measure it in."""
    own = [maps.status[key][place] for key in maps]
    return tuple(NO_FACE if status == "ok" and not has_face else status for status in own)


def _measures(sums: FloatArray, counts: FloatArray, well: NDArray[np.bool_]) -> FloatArray:
    """Share, lift, and both within the face, (K, R, 4), from sums (K, R) and sizes (R,)."""
    in_face = np.array([np.nan if name == BACKGROUND else 1.0 for name in REGIONS])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = sums / sums.sum(axis=1, keepdims=True)
        face_share = sums * in_face / np.nansum(sums * in_face, axis=1, keepdims=True)
        lift = share / (counts / counts.sum())
        face_lift = face_share / (counts * in_face / np.nansum(counts * in_face))
    columns = np.stack([share, lift, face_share, face_lift], axis=2)
    return np.where(well[:, None, None] & np.isfinite(columns), columns, np.nan)


def _grids(amounts: Tensor, statuses: Sequence[str]) -> list[Grid | None]:
    """The amounts (N, h, w), averaged down to at most 28x28, None where there is no map."""
    height, width = amounts.shape[1:]
    scale = min(1.0, GRID_SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    values = F.adaptive_avg_pool2d(amounts[:, None], small)[:, 0].cpu().double().numpy()
    return [_grid(each) if status == "ok" else None for each, status in zip(values, statuses, strict=True)]


def _grid(values: FloatArray) -> Grid:
    peak = float(values.max())
    return Grid(np.rint(values * (255 / peak)).astype(np.uint8), peak)


def kinds(maps: Maps) -> list[dict[str, str]]:
    """Method, layer ("" if none) and rule of each map, in their order."""
    return [{"method": key[0], "layer": key[1] or "", "rule": maps.rule[key]} for key in maps]


def name_of(key: Key) -> str:
    """A map's name in a file: its method, and its layer after an @."""
    return f"{key[0]}@{key[1]}" if key[1] else key[0]
