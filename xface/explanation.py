"""`explain`: one image, one detector: what hiding each region does, all requested maps, what they hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from xface.attribution import Maps, attribute, gaps
from xface.attribution.maps import Key
from xface.attribution.targets import Targets
from xface.detectors.choosing import EFFECTS_KEY, choose, earned
from xface.detectors.detector import Detector, ImageLike
from xface.detectors.requests import checked
from xface.errors import LandmarkError
from xface.evidence.explained import EffectKind, ExplainedEffects, check_effect_kind, explained_effects
from xface.evidence.hiding import NEUTRAL
from xface.faces import find_face, region_labels, region_outlines
from xface.faces.measures import measure_all
from xface.faces.plausibility import angle_between, implausible, quarter_turns, turn_note
from xface.images.pictures import Picture, read_picture
from xface.preprocessing import Prepared
from xface.report import SavedFiles, as_html, save
from xface.results import (
    AttributionMap,
    ByteArray,
    ExplanationData,
    Face,
    FloatArray,
    MapTrust,
    RegionEffect,
    RegionMeasure,
)

if TYPE_CHECKING:
    import pandas as pd

EFFECT_COLUMNS = [
    *(field.name for field in fields(RegionEffect) if field.name != "fills"),
    *(f"effect_{fill}" for fill in NEUTRAL),
]
OTHERWISE = 60  # degrees from which on two faces lie otherwise
PERCENT = 100
NEAR, FAR = 0.1, 0.3  # mean distances between the landmarks of one face and of two, in its box's diagonals


class Explanation(ExplanationData):
    """What `explain` found: `prediction`, `face`, `effects`, `maps`, `regions`; a notebook shows it."""

    def save(self, folder: str | os.PathLike[str], index: int = 0, maps: bool = False) -> SavedFiles:
        """Write the pictures, the panel and, with `maps`, the raw arrays; see `xface.report.save`."""
        return save(self, folder, index, maps)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row per map and region, with the image's name first."""
        import pandas as pd

        columns = [field.name for field in fields(RegionMeasure)]
        frame = pd.DataFrame([asdict(row) for row in self.regions], columns=columns)
        frame.insert(0, "image", self.image)
        return frame

    def effects_to_dataframe(self) -> pd.DataFrame:
        """Return a row per region with what hiding it does, by each fill too; the image's name first."""
        import pandas as pd

        frame = pd.DataFrame([row.to_row() for row in self.effects], columns=EFFECT_COLUMNS)
        frame.insert(0, "image", self.image)
        return frame

    def to_json(self, files: SavedFiles | None = None) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`; undefined numbers are None."""
        pictures = files.pictures if files else {}
        earned_by = {(each.method, each.layer): each.to_json() for each in self.trust}
        return {
            "image": self.image,
            "detector": self.detector,
            "prediction": self.prediction.to_json(),
            "target": self.target,
            "face": self.face.to_json(),
            "effects": [asdict(row) for row in self.effects],
            "effects_trust": earned_by.get(EFFECTS_KEY),
            "flip_set": None if self.flip_set is None else list(self.flip_set),
            "maps": [
                {"method": m.method, "layer": m.layer, "status": m.status, "rule": m.rule}
                | {"file": str(pictures[m.method, m.layer]) if pictures else None}
                | {"trust": earned_by[m.method, m.layer] if earned_by else None}
                for m in self.maps
            ],
            "choice": self.choice or None,
            "regions": [asdict(row) for row in self.regions],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return as_html(self)

    def __repr__(self) -> str:
        found = f"{self.prediction.label} {self.prediction.probability:.3f}"
        return f"Explanation({self.image!r}: {found}, {len(self.maps)} maps)"


def explain(
    detector: Detector,
    image: ImageLike,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | str | None = None,
    target: str | int = "predicted",
    face: Face | None = None,
    effects: EffectKind | None = "regions",
) -> Explanation:
    """Explain a detector's verdict on one image: hide each region of the face, and measure maps in them.

    Args:
        detector: from `xface.load`.
        image: a path, a PIL image, a uint8 RGB array, or a Picture.
        methods: names from `xface methods`; None for each core method that the network defines, with a note
            on those that it doesn't, and first the map that leads by the trust on the detector's card.
        layers: module names, `all` for the architecture's stages; None for the best layer by that trust, else
            the recommended one.
        target: `predicted`, `margin` (its logit less the best other), a class name, or its index.
        face: the face to measure in, in pixels of the upright original, and to crop to where the detector's
            card asks for it; None finds it with the detector's face detector.
        effects: `regions` for what hiding each region does to the explained class's score, `shapley` for the
            regions' Shapley values too (some hundred forward passes), None for neither.

    Returns:
        The explanation; without a face it has maps, but no effects and regions.

    Raises:
        ImageError, LandmarkError, UnknownNameError, TargetError, AttributionError: as each message says.

    Example:
        >>> import numpy as np, xface
        >>> grey = np.full((64, 64, 3), 128, np.uint8)
        >>> found = explain(xface.load("none", arch="resnet18"), grey, methods=["gradcam"])
        >>> found.face.found, [(m.method, m.layer) for m in found.maps]
        (False, [('gradcam', 'layer4')])
    """
    request = checked(detector, methods, layers, target)
    chosen = choose(detector, request[1], None if layers is None else request[2])
    check_effect_kind(effects)
    picture = image if isinstance(image, Picture) else read_picture(image)
    face = face or find_face(picture.pixels, detector.face_detector)
    prepared = detector.prepare(picture, face)
    misplaced = _misplaced(face, picture, prepared)
    tensor = prepared.tensor.unsqueeze(0)
    found = attribute(detector.model, tensor, *request)
    maps = _with_leading(found, detector, tensor, request[0], chosen.leading)
    prediction, explained = detector.verdicts(found.output)[0], int(found.targets[0])
    hidden = _effects(detector, prepared, face, explained, effects, found.output)
    return Explanation(
        image=picture.name,
        view=prepared.view,
        detector=detector.to_json(),
        trained=detector.trained,
        prediction=prediction,
        target=str(target),
        label=detector.classes[explained],
        effects=hidden.effects,
        flip_set=hidden.flip_set,
        maps=maps,
        trust=_earned(detector, maps, bool(hidden.effects)),
        choice=chosen.words,
        notes=(
            *picture.notes,
            *prepared.notes,
            *face.notes,
            *misplaced,
            *hidden.notes,
            *gaps(found.undefined),
            *found.notes,
        ),
        **_measured(prepared, face, maps),
    )


def _effects(
    detector: Detector,
    prepared: Prepared,
    face: Face,
    target: int,
    kind: EffectKind | None,
    logits: Tensor,
) -> ExplainedEffects:
    if kind is None or face.landmarks is None:
        return ExplainedEffects()
    landmarks = prepared.geometry.to_input(face.landmarks)
    return explained_effects(detector, prepared.tensor, landmarks, target, kind, logits)


def _earned(detector: Detector, maps: tuple[AttributionMap, ...], has_effects: bool) -> tuple[MapTrust, ...]:
    """What the effects, if there are any, and each map earned."""
    digest = detector.card.trust
    keys = [EFFECTS_KEY] if has_effects and digest and digest.effects else []
    return earned(detector, [*keys, *((each.method, each.layer) for each in maps)])


def _with_leading(
    found: Maps, detector: Detector, tensor: Tensor, target: Targets, leading: Key | None
) -> tuple[AttributionMap, ...]:
    """The maps, the leading one first, whether it is among those that were found or not."""
    maps = list(_maps(found))
    if leading and leading not in found:
        method, layer = leading
        maps += _maps(attribute(detector.model, tensor, target, [method], [layer] if layer else []))
    return tuple(sorted(maps, key=lambda each: (each.method, each.layer) != leading))


def _maps(found: Maps) -> tuple[AttributionMap, ...]:
    return tuple(
        AttributionMap(
            method, layer, found.status[method, layer][0], found.rule[method, layer], tensor[0].cpu().numpy()
        )
        for (method, layer), tensor in found.items()
    )


def _misplaced(face: Face, picture: Picture, prepared: Prepared) -> tuple[str, ...]:
    """A note if most landmarks lie outside what is seen.

    Raises LandmarkError if they can't be a face's, if their box misses the picture, or if dlib sees that they
    are turned.
    """
    if face.landmarks is None:
        return ()
    if reason := implausible(face.landmarks):
        raise LandmarkError(
            f"the landmarks of {picture.name!r} ({face.source!r}) can't be a face's: {reason}"
        )
    width, height = picture.pixels.shape[1::-1]
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    if (high < -0.5).any() or (low > np.array([width, height]) - 0.5).any():
        raise LandmarkError(
            f"the landmarks of {picture.name!r} ({face.source!r}) run from {low.round(1).tolist()} to "
            f"{high.round(1).tolist()}, past its {width}x{height} pixels; give them in pixels of the upright "
            "original"
        )
    if not face.source.startswith("dlib"):
        _check_turn(face, picture)
        _check_percent(face, picture)
    places = {
        "picture": (face.landmarks, picture.pixels),
        "part that the network sees": (prepared.geometry.to_input(face.landmarks), prepared.view),
    }
    for place, (points, pixels) in places.items():
        outside = _count_outside(points, pixels)
        if outside > len(points) / 2:
            return (f"{outside} of {len(points)} landmarks lie outside the {place}",)
    return ()


def _check_turn(face: Face, picture: Picture) -> None:
    """Raise LandmarkError for given landmarks of a turned face where dlib sees one that lies otherwise."""
    points = np.asarray(face.landmarks)
    if not quarter_turns(points):
        return
    seen = _seen_if_any(picture)
    if seen is None or angle_between(points, seen) < OTHERWISE:
        return
    middle = seen.mean(axis=0)
    if ((points.min(axis=0) < middle) & (middle < points.max(axis=0))).all():
        raise LandmarkError(
            f"the landmarks of {picture.name!r} ({face.source!r}) can't be right: by them "
            f"{turn_note(quarter_turns(points))}, but dlib finds it in another orientation; "
            "count x from the left, y from the top, of the picture as its EXIF tag turns it"
        )


def _check_percent(face: Face, picture: Picture) -> None:
    """Raise LandmarkError for landmarks that lie where dlib sees the face only as percent of the picture."""
    points, size = np.asarray(face.landmarks), np.array(picture.pixels.shape[1::-1])
    if points.max() > PERCENT or size.max() < 2 * PERCENT:
        return
    seen = _seen_if_any(picture)
    if seen is None:
        return
    extent = np.linalg.norm(np.ptp(seen, axis=0))
    given, scaled = (
        np.linalg.norm(each - seen, axis=1).mean() / extent for each in (points, points * size / PERCENT)
    )
    if scaled < NEAR and given > FAR:
        raise LandmarkError(
            f"the landmarks of {picture.name!r} ({face.source!r}) are in percent of the picture: so they lie "
            f"where dlib sees the face; multiply x by {size[0] / PERCENT:g} and y by {size[1] / PERCENT:g}"
        )


def _seen_if_any(picture: Picture) -> FloatArray | None:
    """The landmarks that dlib sees; None also without its models: who gives landmarks needs none."""
    try:
        return find_face(picture.pixels).landmarks
    except LandmarkError:
        return None


def _count_outside(points: FloatArray, pixels: ByteArray) -> int:
    last = np.array(pixels.shape[1::-1]) - 0.5  # the edge of the last pixel; the first one's is at -0.5
    return int(((points < -0.5) | (points > last)).any(axis=1).sum())


def _measured(prepared: Prepared, face: Face, maps: tuple[AttributionMap, ...]) -> dict[str, Any]:
    """What depends on the face: it, its landmarks and regions in the network's input, the maps' measures."""
    if face.landmarks is None:
        return {"face": face, "landmarks": None, "outlines": (), "regions": ()}
    size = (prepared.view.shape[0], prepared.view.shape[1])
    landmarks = prepared.geometry.to_input(face.landmarks)
    labels = region_labels(landmarks, size)
    return {
        "face": face,
        "landmarks": landmarks,
        "outlines": tuple(region_outlines(landmarks, size)),
        "regions": tuple(measure_all(maps, labels)),
    }
