"""The plan of an analysis: what its tables depend on, all checked before the first image is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

import torch

from xface import __version__
from xface.analysis.labelled_data import AnalysedData
from xface.analysis.measuring import Request, kinds
from xface.analysis.rows import Rows
from xface.attribution import attribute
from xface.detectors.choosing import choose, earned
from xface.detectors.crops import Crop, crop_of
from xface.detectors.detector import Detector
from xface.detectors.environment import device_name, versions
from xface.detectors.requests import checked, positive_class
from xface.errors import UsageError
from xface.evaluation.scoring import vocabulary
from xface.evaluation.thresholds import Threshold, stated_threshold
from xface.faces.attributes import ATTRIBUTES, attribute_words
from xface.faces.drawn_regions import drawn_regions
from xface.faces.landmarks import LANDMARKERS
from xface.files.paths import absolute
from xface.results import MapTrust
from xface.runs.tables import OWN_COLUMNS

PART = 128
"""Images in a part."""

METHOD = "gradcam"
"""Of the maps where no method is named, and no map leads."""

BATCHES: Mapping[str, int] = {"cpu": 16, "cuda": 64}
"""Images shown to the network at once, by kind of device; parts are whole batches."""

EffectsLimit: TypeAlias = int | Literal["all"] | None
"""Of how many images of each outcome the parts of the face are hidden: drawn at random, all, or of none."""

PROBE = (256, 256)
"""The size of the image that finds out which maps there are, where the pictures keep their own sizes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A detector, the images it is asked about, the maps it is asked for, and the threshold.

    Every map is of the positive class, so that those of images called fake and real answer one question.
    `kinds` are method, layer and rule of each map, in order, `choice` why these. `by` are columns of the data
    by whose values errors are broken down, `proposals` what thresholds are proposed for. Parts of faces are
    hidden of `effects` images of each outcome. Made by `plan_analysis`.
    """

    detector: Detector = field(repr=False)
    data: AnalysedData
    request: Request
    kinds: Sequence[Mapping[str, str]]
    threshold: Threshold
    keep_maps: bool = False
    choice: str = ""
    by: tuple[str, ...] = ()
    proposals: tuple[Mapping[str, float], ...] = ()
    effects: EffectsLimit = None

    @property
    def crop(self) -> Crop | None:
        """The face crop that the detector's card asks for."""
        return crop_of(self.detector.card.crop)

    @property
    def part_count(self) -> int:
        """The number of parts."""
        return -(-len(self.data) // PART)

    def batches(self, part: int) -> list[range]:
        """The rows of each batch of a part; always the same ones, whatever was done before."""
        step = BATCHES[self.detector.device.type]
        end = min((part + 1) * PART, len(self.data))
        return [range(start, min(start + step, end)) for start in range(part * PART, end, step)]

    @property
    def trust(self) -> tuple[MapTrust, ...]:
        """What each map earned; nothing where the detector was not checked."""
        return earned(self.detector, [(kind["method"], kind["layer"] or None) for kind in self.kinds])

    def rows(self) -> Rows:
        """What makes the tables' rows."""
        positive = vocabulary(self.detector).positive_label
        return Rows(self.data, self.kinds, positive, self.threshold.value, self.data.groups)

    def settings(self) -> dict[str, Any]:
        """All that the tables depend on; a run that was stopped resumes only if none of it has changed."""
        card, face_detector = self.detector.card.to_json(), self.detector.face_detector
        return {
            "weights_sha256": self.detector.weights_sha256,
            "card": {key: value for key, value in card.items() if key not in ("sha256", "source", "trust")},
            "face_detector": {"name": face_detector, **LANDMARKERS[face_detector].to_json()},
            "data_sha256": self.data.sha256,
            "split": self.data.split,
            "limit": self.data.limit,
            "group_by": self.data.group_by,
            "maps": [f"{kind['method']} {kind['layer']}".strip() for kind in self.kinds],
            "threshold": self.threshold.value,
            "keep_maps": self.keep_maps,
            "by": list(self.by),
            "proposals": list(map(dict, self.proposals)),
            "effects": self.effects,
            "device": self.detector.device.type,
            "batch": BATCHES[self.detector.device.type],
            "part": PART,
            "versions": {"xface": __version__, "torch": torch.__version__},
        }

    def manifest(self, command: Sequence[str]) -> dict[str, Any]:
        """What a run's manifest says from its beginning."""
        return {
            "xface": __version__,
            "command": list(command),
            "folder": str(absolute(".", UsageError)),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "device": device_name(self.detector.device),
            "detector": self.detector.to_json(),
            "data": self.data.to_json(),
            "threshold": {"value": self.threshold.value, "origin": self.threshold.source},
            "positive": self.rows().positive,
            "classes": list(self.detector.classes),
            "target": positive_class(self.detector),
            "kinds": [dict(kind) for kind in self.kinds],
            "trust": [asdict(each) for each in self.trust],
            "choice": self.choice,
            "group_by": self.data.grouped_by,
            "by": [self.rows().names_of_others()[column] for column in self.by],
            "proposals": list(map(dict, self.proposals)),
            "attributes": attribute_words(),
            "regions": drawn_regions(),
            "settings": self.settings(),
        }


def plan_analysis(
    detector: Detector,
    data: AnalysedData,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    threshold: float | None = None,
    keep_maps: bool = False,
    by: Sequence[str] = (),
    proposals: Sequence[Mapping[str, float]] = (),
    effects: EffectsLimit = None,
) -> Plan:
    """Check what is asked for, by explaining one grey image.

    Args:
        detector: from `xface.load`.
        data: from `read_data`.
        methods: names from `xface methods`; None for the one that leads by the trust on the detector's card,
            else `gradcam`.
        layers: module names, or `all`; None for the best one by that trust, else the recommended one.
        threshold: called positive from here on; else the card's, else 0.5.
        keep_maps: whether the raw maps are to be written too.
        by: columns of the data by whose values errors are broken down.
        proposals: what thresholds are proposed for, see `xface.findings.proposals`.
        effects: of how many images of each outcome the face's parts are hidden in turn; None for none.

    Raises:
        UsageError: no class is positive; no method; `effects` of 0; an attribute is named as another column;
            there is no column of `by`; a proposal's rate is none, or a cost is not above 0; or as
            `xface.explanation.checked`.
        DataError: labels are none of the detector's classes.
        AttributionError: a method is undefined for this network.
    """
    if isinstance(effects, int) and effects < 1:
        raise UsageError(
            f"effects of {effects} images of each outcome are none; give 1 or more, all, or none"
        )
    if methods is not None and not methods:
        raise UsageError("no method is named; give at least one of those that `xface methods` lists")
    if taken := OWN_COLUMNS & ATTRIBUTES.keys():
        raise UsageError(
            f"the attribute {min(taken)!r} is named as a column of each run; give it another name"
        )
    data.check_columns(by)
    for each in proposals:
        _check_wish(each)
    labelled = data.read_as(vocabulary(detector))
    positive = positive_class(detector)
    chosen = choose(
        detector, methods, None if layers is None else checked(detector, None, layers, positive)[2]
    )
    method, layer = chosen.leading or (METHOD, None)
    if methods is None and layers is None and layer:
        layers = [layer]
    request = checked(detector, [method] if methods is None else methods, layers, positive)
    size = detector.card.preprocessing.size or PROBE
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    probe = attribute(detector.model, noise, *request)
    detector = replace(detector, notes=(*detector.notes, *probe.notes))
    limit = stated_threshold(threshold, detector.card.threshold)
    return Plan(
        detector,
        labelled,
        request,
        kinds(probe),
        limit,
        keep_maps,
        chosen.words,
        tuple(dict.fromkeys(by)),
        tuple(proposals),
        effects,
    )


def _check_wish(asked: Mapping[str, float]) -> None:
    """Raise UsageError for a false positive rate that is none, or a cost that is not above 0."""
    for name, value in asked.items():
        if name == "false_positive_rate" and not 0 <= value < 1:
            raise UsageError(f"{value:g} is no false positive rate; give one from 0 to below 1, such as 0.05")
        if name != "false_positive_rate" and not 0 < value < float("inf"):
            raise UsageError(f"a {name.replace('_', ' ')} cannot cost {value:g}; give a number above 0")
