"""A check: what it gets of a picture, and what it says of each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xface.evidence.hiding import ShownFace
from xface.faces.regions import BACKGROUND, REGIONS
from xface.registry import Registry
from xface.results import ByteArray, FloatArray


class Figure(NamedTuple):
    """What a number is: a figure of a check, of a part (`region`, `nose`), at a point (`layer`, `fc`)."""

    name: str
    by: str = ""
    part: str = ""


Values: TypeAlias = Mapping[Figure, FloatArray]
"""By figure, one number per answer (A,), NaN where it is undefined."""


@dataclass(frozen=True)
class Words:
    """A figure in words: title, what it is, which values are better, and between which they lie.

    `percent` says that it is a rate. `ranks` says that it takes part in a map's grade: the first such figure
    that could be measured decides.
    """

    title: str
    about: str
    better: Literal["higher", "lower"] = "higher"
    limits: tuple[float, float] | None = None
    percent: bool = False
    ranks: bool = False


class Network(Protocol):
    """What a check may ask of the detector; images are prepared, (N, 3, H, W)."""

    @property
    def stages(self) -> Sequence[str]:
        """From the top down, to which the weights can be made random; at the last one all are."""
        ...

    @property
    def boundary(self) -> float:
        """The score above which a picture is called forged."""
        ...

    def scores(self, images: Tensor) -> FloatArray:
        """How much each image looks forged, (N,): the positive class's log-odds."""
        ...

    def amounts(self, images: Tensor, stage: str | None = None) -> Tensor:
        """All maps (K, N, H, W), NaN where one is undefined; with weights random down to `stage`."""
        ...

    def pixels(self, image: Tensor) -> ByteArray:
        """The picture (H, W, 3) that was prepared as an image (3, H, W)."""
        ...

    def prepared(self, pixels: ByteArray) -> Tensor:
        """The inverse of `pixels`."""
        ...


@dataclass(frozen=True, eq=False)
class Subject:
    """One picture, and what the A answerers say of it: first K maps, then the same of the untrained network.

    Attributes:
        face: the picture as the network sees it.
        network: the detector.
        score: its score of the picture.
        amounts: (A, H, W), how much each answer lays on each pixel, NaN where it is undefined.
        ranks: (A, R), by which an answer puts the regions of the face in order.
        shares: (A, R), of all amounts, what lies in each region; NaN for answers that are no maps.
        effects: (R,), by how much hiding each region lowers the score.
        maps: K.
        mask: (H, W), what is manipulated; None where that isn't known.
        pasted: the region that was pasted from the forgery, None where none was.
        rise: by how much that raised the score.
        seed: of whatever is drawn at random.
    """

    face: ShownFace
    network: Network = field(repr=False)
    score: float
    amounts: Tensor = field(repr=False)
    ranks: FloatArray = field(repr=False)
    shares: FloatArray = field(repr=False)
    effects: FloatArray = field(repr=False)
    maps: int
    mask: NDArray[np.bool_] | None = None
    pasted: str | None = None
    rise: float = float("nan")
    seed: int = 0

    def __len__(self) -> int:
        return len(self.amounts)


Compute: TypeAlias = Callable[[Subject], Values]


@dataclass(frozen=True, eq=False)
class Check:
    """A check: `compute` gives its figures for one subject, `figures` says what each is.

    `source` is the publication. `of` is what it is done on: each forged `picture`; each with a `mask`, also
    those made from real faces; or each `swap`, a real face with a region pasted from its forgery. `most`
    bounds the number of pictures of a costly check.
    """

    compute: Compute
    figures: Mapping[str, Words]
    source: str
    of: Literal["picture", "mask", "swap"] = "picture"
    most: int | None = None


CHECKS: Registry[Check] = Registry("check of evidence")


def face_regions() -> list[str]:
    """The regions that an answer puts in order: all but the background."""
    return [name for name in REGIONS if name != BACKGROUND]


def per_answer(subject: Subject, value: Callable[[int], float]) -> FloatArray:
    """A number per answer (A,), NaN for those that are undefined."""
    return np.array(
        [value(k) if subject.amounts[k, 0, 0].isfinite() else np.nan for k in range(len(subject))]
    )
