"""What a run finds, as plain frozen records: no torch, no dlib, ready for JSON and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """A detector's verdict on one image: softmax or sigmoid probabilities, one per class name."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Face:
    """The face that was analysed, in pixels of the original (upright) image.

    `box` is (left, top, right, bottom); `landmarks` is (68, 2), x before y, in iBUG order; `source`
    says who found them (`dlib-hog`, `dlib-cnn`, or the name of a landmark file).
    """

    found: bool
    box: tuple[int, int, int, int] | None = None
    landmarks: FloatArray | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttributionMap:
    """One method's raw map for one image: (C, H, W) signed, or (h, w), float32, never normalised.

    `status` is `ok`, `zero` or `non_finite`; `rule` is `published` or `extended`.
    """

    method: str
    layer: str | None
    status: str
    rule: str
    values: FloatArray = field(repr=False)


@dataclass(frozen=True)
class RegionMeasure:
    """One region's part of one map; None where it is undefined.

    share, area, lift, rank and peak are over the whole input; `face_share` and `face_lift` over the face
    alone (None for the background). See `xface.faces.measures` for the formulas.
    """

    method: str
    layer: str | None
    region: str
    share: float | None
    area: float
    lift: float | None
    rank: float | None
    peak: float | None
    coarse: bool
    face_share: float | None
    face_lift: float | None
