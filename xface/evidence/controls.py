"""Control areas: what hiding anything of a region's size does, elsewhere than in the features of the face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from xface.faces.regions import BACKGROUND, REGIONS
from xface.results import ByteArray

FEATURES = ("right_eye", "left_eye", "right_eyebrow", "left_eyebrow", "mouth", "nose")
ALIKE = 2.0  # regions whose areas differ by at most this factor share a control area
MOST = 0.25  # of the picture: a disc of more would cover what it should avoid


@dataclass(frozen=True, eq=False)
class Controls:
    """Discs (C, H, W) of the sizes of a face's regions, and each region's disc in them, -1 for no pixels."""

    masks: NDArray[np.bool_]
    of_region: NDArray[np.intp]


def control_areas(
    labels: ByteArray, areas: NDArray[np.bool_] | None = None, alike: float = ALIKE
) -> Controls:
    """Control areas for the regions of a face, or for other areas of it.

    A control is a disc that has the area of the regions it stands for, the geometric mean where several share
    it (the smallest and largest of them differ by at most `alike` times). It avoids eyes, eyebrows, mouth and
    nose and the regions that it stands for; of the places that do so best it takes the one nearest to the
    face's centre. The background, and any region over a quarter of the picture, has the largest disc: as
    much can't be hidden elsewhere, and what a smaller area does it must do too.

    Args:
        labels: uint8 (H, W), from `region_labels`.
        areas: (K, H, W), which may overlap; the regions if None.
        alike: how much larger of two areas that share a control one may be.

    Example:
        >>> labels = np.full((60, 60), len(REGIONS) - 1, np.uint8)
        >>> labels[20:26, 20:30] = list(REGIONS).index("mouth")
        >>> found = control_areas(labels)
        >>> found.masks.sum(axis=(1, 2)).tolist(), int((found.masks[0] & (labels != len(REGIONS) - 1)).sum())
        ([61], 0)
    """
    face = labels < list(REGIONS).index(BACKGROUND)
    areas = labels == np.arange(len(REGIONS))[:, None, None] if areas is None else areas
    sizes = areas.sum(axis=(1, 2))
    having = (areas & face).any(axis=(1, 2)) & (sizes <= MOST * labels.size)
    groups = _alike(sizes, np.flatnonzero(having), alike)
    of_region = np.full(len(areas), -1)
    masks = np.zeros((len(groups), *labels.shape), bool)
    for number, group in enumerate(groups):
        of_region[group] = number
        masks[number] = _disc(labels, np.logical_or.reduce(areas[group]), np.exp(np.log(sizes[group]).mean()))
    of_region[(of_region < 0) & (sizes > 0)] = len(groups) - 1  # -1 again where there is no disc at all
    return Controls(masks, of_region)


def _alike(sizes: NDArray[np.intp], having: NDArray[np.intp], alike: float) -> list[list[int]]:
    """Those of the areas that have a control, from small to large, in groups of about the same size."""
    groups: list[list[int]] = []
    for area in having[np.argsort(sizes[having], kind="stable")]:
        if groups and sizes[area] <= alike * sizes[groups[-1][0]]:
            groups[-1].append(int(area))
        else:
            groups.append([int(area)])
    return groups


def _disc(labels: ByteArray, of: NDArray[np.bool_], area: float) -> NDArray[np.bool_]:
    """The disc that avoids the features and what it is the control `of` best, and then is nearest to the
    face."""
    names = list(REGIONS)
    radius = min(math.sqrt(area / math.pi), (min(labels.shape) - 1) / 2)
    reach = math.floor(radius)
    avoided = np.isin(labels, [names.index(each) for each in FEATURES]) | of
    rows, columns = np.indices(labels.shape)
    kernel = _circle(np.arange(-reach, reach + 1)[:, None], np.arange(-reach, reach + 1), radius)
    overlap = cv2.filter2D(avoided.astype(np.float32), -1, kernel.astype(np.float32))
    face = np.argwhere(labels < names.index(BACKGROUND))
    away = np.hypot(*(axis - at for axis, at in zip((rows, columns), face.mean(axis=0), strict=True)))
    inside = slice(reach, labels.shape[0] - reach), slice(reach, labels.shape[1] - reach)
    cost = (np.rint(overlap) + away / (10 * away.max()))[inside]  # the way decides between equals only
    row, column = np.unravel_index(np.argmin(cost), cost.shape)
    return _circle(rows - row - reach, columns - column - reach, radius)


def _circle(rows: NDArray[np.intp], columns: NDArray[np.intp], radius: float) -> NDArray[np.bool_]:
    return np.asarray(rows**2 + columns**2 <= radius**2)
