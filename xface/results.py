"""What a run finds, as plain frozen records: no torch, no dlib, ready for JSON and tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

Outcome: TypeAlias = Literal["TP", "FP", "TN", "FN"]
OUTCOMES: dict[str, str] = {
    "TP": "true positives",
    "FP": "false positives",
    "TN": "true negatives",
    "FN": "false negatives",
}
"""An image's true class against the predicted one, and what images of each outcome are called."""

WRONG = ("FP", "FN")
"""The outcomes of images that are classified wrongly."""

POSITIVES = ("TP", "FN")
"""The outcomes of images whose true class is the positive one."""

CONTRASTS = {"FP-TN": ("FP", "TN"), "FN-TP": ("FN", "TP")}
"""The errors of each true class, against its images that are classified correctly."""

LIKENESSES = {"FP-TP": ("FP", "TP"), "FN-TN": ("FN", "TN")}
"""The errors of each predicted class, against its images that are classified correctly: are they alike?"""

Grade: TypeAlias = Literal[
    "informative", "no better than the face's centre", "contradicted by randomisation", "not checked"
]
"""What a map's checks come to; `not checked` where the data leaves too little to judge by."""

INFORMATIVE: Grade = "informative"
NO_BETTER: Grade = "no better than the face's centre"
CONTRADICTED: Grade = "contradicted by randomisation"
NOT_CHECKED: Grade = "not checked"


def outcome_of(is_positive: bool, called_positive: bool) -> Outcome:
    """The outcome of an image, from its true and its predicted class.

    Example:
        >>> outcome_of(True, True), outcome_of(False, True)
        ('TP', 'FP')
    """
    if called_positive:
        return "TP" if is_positive else "FP"
    return "FN" if is_positive else "TN"


@dataclass(frozen=True)
class Prediction:
    """A detector's verdict on one image: softmax or sigmoid probabilities, one per class name.

    `positive` is the class that is the forgery, None where the detector doesn't know. `notes` say what
    reading and preparing the image had to leave out or change; outputs show them beside the prediction.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    positive: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def positive_probability(self) -> float | None:
        """How likely the image is forged; None where no class is the forgery."""
        return None if self.positive is None else self.probabilities[self.positive]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a probability that is not finite is None."""
        each = {name: p if isfinite(p) else None for name, p in self.probabilities.items()}
        return {
            "label": self.label,
            "probability": each[self.label],
            "probabilities": each,
            "positive": self.positive,
            "positive_probability": None if self.positive is None else each[self.positive],
        }


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

    def to_json(self) -> dict[str, Any]:
        """Return plain values, coordinates to a hundredth of a pixel."""
        points = None if self.landmarks is None else self.landmarks.round(2).tolist()
        return {"found": self.found, "box": list(self.box) if self.box else None, "landmarks": points}


@dataclass(frozen=True)
class AttributionMap:
    """One method's raw map for one image: (C, H, W) signed, or (h, w), float32, never normalised.

    `status` is `ok`, `zero` or `non_finite`; `rule` is `published`, `extended` or `partial`.
    """

    method: str
    layer: str | None
    status: str
    rule: str
    values: FloatArray = field(repr=False)

    def amount(self, size: tuple[int, int]) -> FloatArray:
        """Return |A| at the size of the network's input, (H, W): what is measured and shown.

        Signed (C, H, W) maps give the maximum over the channels; a map of another size is upsampled
        bilinearly, pixel centres aligned (`align_corners=False` in PyTorch's words).

        Example:
            >>> row = np.array([[0.0, 4.0]], np.float32)
            >>> AttributionMap("gradcam", "layer4", "ok", "published", row).amount((1, 4))
            array([[0., 1., 3., 4.]], dtype=float32)
        """
        amount = np.abs(self.values).max(axis=0) if self.values.ndim == 3 else np.abs(self.values)
        if amount.shape == size:
            return amount
        # float64, then rounded: in float32 the pixels of a constant map would differ, and no longer tie
        tall = _stretch(amount.astype(np.float64), size[0])
        return _stretch(tall.T, size[1]).T.astype(np.float32)


def _stretch(values: FloatArray, rows: int) -> FloatArray:
    position = np.clip((np.arange(rows) + 0.5) * len(values) / rows - 0.5, 0, len(values) - 1)
    above = position.astype(int)
    below, part = np.minimum(above + 1, len(values) - 1), (position - above)[:, None]
    return np.asarray(values[above] * (1 - part) + values[below] * part)


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


EffectStatus: TypeAlias = Literal["clear", "unclear", "within_noise", "undefined"]


@dataclass(frozen=True)
class RegionEffect:
    """What hiding a region does to the verdict; None where it is undefined. See `xface.evidence.effects`.

    `effect` is the score (log-odds of the explained class) of the picture less that with the region hidden,
    the mean over the `fills`; `spread` their standard deviation, `effect_probability` the same difference as
    a probability. `control` is the effect of hiding an area of about the same size elsewhere. `flips` says
    whether the verdict changes. `area` is the region's part of the picture. `shapley` is its Shapley value if
    asked for, `shapley_error` the standard error of a sampled one, 0 of an exact one.
    """

    region: str
    effect: float | None
    effect_probability: float | None
    spread: float | None
    control: float | None
    status: EffectStatus
    flips: bool
    area: float
    fills: dict[str, float | None]
    shapley: float | None = None
    shapley_error: float | None = None

    def to_row(self) -> dict[str, Any]:
        """Return a row of a table: the effect by each fill as `effect_blur`, `effect_mean` and so on."""
        values = asdict(self)
        fills = values.pop("fills")
        return {**values, **{f"effect_{fill}": value for fill, value in fills.items()}}


@dataclass(frozen=True)
class MapTrust:
    """What a method at a layer earned when the detector was checked by `xface trust`.

    `grade` is one of its grades, `words` say why; `value`, with its 95 % `interval` over groups and number of
    cases `n`, is that on the `check` that ranks maps, `baseline` that of the `best_baseline`. All are None
    where nothing was measured. `few` says the same in few words.
    """

    method: str
    layer: str | None
    grade: str
    words: str
    check: str | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    best_baseline: str | None = None
    baseline: float | None = None
    few: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without what the map itself says."""
        own = asdict(self)
        return {name: value for name, value in own.items() if name not in ("method", "layer", "few")}


@dataclass(frozen=True, eq=False)
class ExplanationData:
    """All that was found about one image, as plain data: what reports are drawn from.

    `view` is the picture as the network saw it, (H, W, 3) uint8; `landmarks` (68, 2) and `outlines` (name,
    polygon (k, 2)) are in its pixels, unlike `face`, which is in the original's. `target` is what was asked
    for, `label` the class that it came to. `detector` is the detector as an output names it. `effects` are
    those of hiding each region; `flip_set` is a small set of regions whose hiding together changes the
    verdict, None where none was found. `trust` is what the effects and each map earned, empty where the
    detector was not checked; `choice` says what was chosen by it, and why.
    """

    image: str
    view: ByteArray
    detector: dict[str, Any]
    trained: bool
    prediction: Prediction
    target: str
    label: str
    face: Face
    landmarks: FloatArray | None
    outlines: tuple[tuple[str, FloatArray], ...]
    maps: tuple[AttributionMap, ...]
    regions: tuple[RegionMeasure, ...]
    effects: tuple[RegionEffect, ...] = ()
    flip_set: tuple[str, ...] | None = None
    trust: tuple[MapTrust, ...] = ()
    choice: str = ""
    notes: tuple[str, ...] = ()

    @property
    def flips(self) -> tuple[str, ...]:
        """The regions whose hiding changes the verdict, smallest first."""
        return tuple(row.region for row in sorted(self.effects, key=lambda row: row.area) if row.flips)

    @property
    def arch(self) -> str:
        """The architecture's name."""
        return str(self.detector["arch"])
