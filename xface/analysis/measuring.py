"""Measured maps: a batch explained, and its maps summed up by region, on the detector's device."""

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
from xface.attribution.maps import furthest
from xface.attribution.targets import Targets
from xface.detectors.detector import Detector
from xface.detectors.fitting import FittingBatches
from xface.evaluation.scoring import positive_scores
from xface.faces.measures import RegionMasks, amount, region_shares, region_sums, resized
from xface.results import ByteArray, FloatArray

GRID_SIDE = 28
NO_FACE = "no_face"
REMEDY = "ask for fewer methods or layers at once, or use --device cpu"

Request = tuple[Targets, Sequence[str] | None, Sequence[str]]
"""Targets, methods and layers, as `xface.explanation.checked` gives them."""


@dataclass(frozen=True, eq=False)
class MapThumbnail:
    """A map's amount, small enough to be kept: (h, w) uint8, of which 255 stands for `peak`."""

    values: ByteArray = field(repr=False)
    peak: float


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """What the network says of one image, and what its maps hold, for K kinds of maps and R regions.

    `score` is the positive class's probability, NaN with a `reason`. `statuses` has `ok`, `zero`,
    `non_finite` or `no_face` per kind; `measures` (K, R, 4) the columns of `SHARES`, NaN unless ok; `area`
    (R,) and `coarse` (K, R) are the regions'. `grids` are None for maps that are not defined, `maps` are the
    raw ones, if they are to be kept.
    """

    score: float
    reason: str
    statuses: tuple[str, ...]
    measures: FloatArray = field(repr=False)
    area: FloatArray = field(repr=False)
    coarse: NDArray[np.bool_] = field(repr=False)
    grids: tuple[MapThumbnail | None, ...] = field(repr=False)
    maps: tuple[FloatArray, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Said:
    """What the engine said of the maps of some batches: each kind's rule, the furthest, and all notes."""

    rules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def and_of(self, maps: Maps) -> Said:
        """The same of one batch more."""
        now = tuple(maps.rule[key] for key in maps)
        both = zip(self.rules or now, now, strict=True)
        return Said(tuple(map(furthest, both)), tuple(dict.fromkeys((*self.notes, *maps.notes))))


class MapMeasurer:
    """Explains batches and measures their maps; a batch that does not fit into memory is halved.

    The smaller size is kept for the batches that follow. `said` adds up what the engine says of the maps.

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
        self.fitting = FittingBatches(detector.device, REMEDY)
        self.said = Said()
        self.watch, self.masks = watch or Stopwatch(), RegionMasks()

    def __call__(self, images: Tensor, labels: Tensor) -> list[MeasuredImage]:
        """One result per image, for tensors (N, 3, H, W) and region labels (N, H, W); 255 is no region.

        Raises:
            XFaceError: not even one image fits into memory. AttributionError: as `attribute`.
        """
        return self.fitting(lambda part: self._measured(images[part], labels[part]), len(images))

    def _measured(self, images: Tensor, labels: Tensor) -> list[MeasuredImage]:
        device = self.detector.device
        with self.watch("attribution"):
            maps = attribute(self.detector.model, images.to(device), *self.request)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        self.said = self.said.and_of(maps)
        with self.watch("regions"):
            return measured(maps, labels, self.detector, self.masks, self.keep_maps)


def measured(
    maps: Maps, labels: Tensor, detector: Detector, masks: RegionMasks, keep_maps: bool = False
) -> list[MeasuredImage]:
    """The score and the measures of each image of a batch, from its maps and region labels (N, H, W)."""
    size = (labels.shape[1], labels.shape[2])
    natural = [amount(tensor) for tensor in maps.values()]
    amounts = [resized(each, size) for each in natural]
    sums = region_sums(amounts, masks(labels, amounts[0]))
    if not sums.isfinite().all():  # perhaps only beyond float32, or of a map that is not finite
        amounts = [each.double() for each in amounts]
        sums = region_sums(amounts, RegionMasks()(labels, amounts[0]))
    shares, area, coarse = region_shares(sums.cpu().numpy(), [tensor.shape for tensor in maps.values()])
    grids = [_grids(each, maps.status[key]) for key, each in zip(maps, natural, strict=True)]
    kept = [tensor.cpu().numpy() for tensor in maps.values()] if keep_maps else []
    scores = positive_scores(detector, maps.output.reshape(len(labels), -1))
    statuses = [_statuses(maps, place, bool(sums[place, -1].any())) for place in range(len(labels))]
    well = np.array(statuses) == "ok"
    return [
        MeasuredImage(
            *scores[place],
            statuses[place],
            np.where(well[place, :, None, None], shares[place], np.nan),
            area[place],
            coarse[place],
            tuple(each[place] for each in grids),
            tuple(each[place] for each in kept),
        )
        for place in range(len(labels))
    ]


def _statuses(maps: Maps, place: int, has_face: bool) -> tuple[str, ...]:
    """A map's own status, or that it is defined but there is no face to measure it in."""
    own = [maps.status[key][place] for key in maps]
    return tuple(NO_FACE if status == "ok" and not has_face else status for status in own)


def _grids(amounts: Tensor, statuses: Sequence[str]) -> list[MapThumbnail | None]:
    """The amounts (N, h, w), averaged down to at most 28x28; None for a map that is not defined."""
    height, width = amounts.shape[1:]
    scale = min(1.0, GRID_SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    values = F.adaptive_avg_pool2d(amounts[:, None], small)[:, 0].cpu().double().numpy()
    return [_grid(each) if status == "ok" else None for each, status in zip(values, statuses, strict=True)]


def _grid(values: FloatArray) -> MapThumbnail:
    peak = float(values.max())
    return MapThumbnail(np.rint(values * (255 / peak)).astype(np.uint8), peak)


def kinds(maps: Maps) -> list[dict[str, str]]:
    """Method, layer ("" if none) and rule of each map, in their order."""
    return [{"method": key[0], "layer": key[1] or "", "rule": maps.rule[key]} for key in maps]
