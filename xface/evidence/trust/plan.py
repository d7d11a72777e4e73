"""The plan of `xface trust`: what its figures depend on, all checked before the first picture is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from xface import __version__
from xface.attribution import METHODS as REGISTERED
from xface.attribution import attribute
from xface.attribution.maps import Key
from xface.attribution.targets import Targets
from xface.data import Samples
from xface.data.labels import Vocabulary
from xface.detectors.crops import Crop, crop_of
from xface.detectors.detector import Detector
from xface.detectors.environment import device_name, versions
from xface.detectors.requests import checked, positive_class
from xface.errors import AttributionError, UsageError
from xface.evidence.baselines import BASELINES
from xface.evidence.checks import CHECKS
from xface.evidence.randomised import UNTRAINED_SEED
from xface.evidence.trust.cases import GROUP, SEED, Case, Cases, find_cases
from xface.evidence.trust.network import AskedNetwork
from xface.evidence.trust.verdicts import Answerers
from xface.faces.landmarks import LANDMARKERS
from xface.files.paths import absolute

METHODS = ("vanilla", "guided", "deconvnet", "gradcam", "guided_gradcam", "gradcam++", "layercam", "eigencam")
"""Those that are checked where none is named, as far as the network defines them."""

QUICK = 60
"""Pictures of each kind of a quick run."""

PART = 16
"""Cases in a part."""

BATCHES = {"cpu": 8, "cuda": 16}
"""Cases at once, by kind of device; parts are whole batches."""

PROBE = (256, 256)


@dataclass(frozen=True, eq=False)
class TrustPlan:
    """A detector, the maps of it that are checked, and the cases that they are asked about.

    Made by `plan_trust`.
    """

    detector: Detector = field(repr=False)
    network: AskedNetwork = field(repr=False)
    kinds: tuple[Key, ...]
    cases: Cases
    source: str
    samples: Samples = field(repr=False)
    choice: dict[str, Any]
    quick: bool = False

    @property
    def crop(self) -> Crop | None:
        """The face crop that the detector's card asks for."""
        return crop_of(self.detector.card.crop)

    @property
    def answerers(self) -> Answerers:
        """Who answers."""
        return Answerers(self.kinds, tuple(BASELINES))

    @property
    def part_count(self) -> int:
        """The number of parts."""
        return -(-len(self.cases) // PART)

    def batches(self, part: int) -> list[list[tuple[int, Case]]]:
        """The cases of each batch of a part, with their places; always the same ones."""
        numbered = list(enumerate(self.cases.cases))[part * PART : (part + 1) * PART]
        step = BATCHES[self.detector.device.type]
        return [numbered[start : start + step] for start in range(0, len(numbered), step)]

    @property
    def files(self) -> list[str]:
        """All files that the cases are read from, each once."""
        return list(dict.fromkeys(path for case in self.cases.cases for path in case.files))

    def settings(self) -> dict[str, Any]:
        """All that the figures depend on; a run that was stopped resumes only if none of it has changed."""
        card, face_detector = self.detector.card.to_json(), self.detector.face_detector
        return {
            "weights_sha256": self.detector.weights_sha256,
            "card": {key: value for key, value in card.items() if key not in ("sha256", "source", "trust")},
            "face_detector": {"name": face_detector, **LANDMARKERS[face_detector].to_json()},
            "data_sha256": self.samples.sha256,
            **self.choice,
            "quick": self.quick,
            "maps": [f"{method} {layer or ''}".strip() for method, layer in self.kinds],
            "checks": {name: check.most for name, check in CHECKS.items()},
            "baselines": list(BASELINES),
            "device": self.detector.device.type,
            "versions": {"xface": __version__, "torch": torch.__version__},
        }

    def manifest(self, command: Sequence[str]) -> dict[str, Any]:
        """What a run's manifest says from its beginning."""
        return {
            "xface": __version__,
            "command": list(command),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "device": device_name(self.detector.device),
            "detector": self.detector.to_json(),
            "seeds": {"cases": SEED, "untrained": UNTRAINED_SEED},
            "settings": self.settings(),
        }


def plan_trust(
    detector: Detector,
    samples: Samples,
    source: str,
    methods: Sequence[str] = (),
    layers: Sequence[str] | None = None,
    *,
    split: str | None = None,
    pairs: str | None = None,
    masks: Path | None = None,
    limit: int | None = None,
    group_by: str = GROUP,
    quick: bool = False,
) -> TrustPlan:
    """Check what is asked for, by explaining one grey picture.

    Args:
        detector: from `xface.load`.
        samples: from `xface.data.read_samples`, with labels as the data has them.
        source: where they were read.
        methods: names from `xface methods`; none for those of `METHODS` that the network defines.
        layers: module names, or `all`; None for the architecture's recommended one.
        split: only the samples of this split.
        pairs, masks, limit, group_by: see `find_cases`.
        quick: 60 pictures of each kind, and fewer of the costly checks.

    Raises:
        UsageError: no class is positive; `quick` and a limit; or as `checked`. DataError: as `find_cases`.
        AttributionError: a method is undefined for this network.
    """
    if quick and limit is not None:
        raise UsageError(f"--quick takes {QUICK} pictures; leave out --limit, or --quick")
    positive = positive_class(detector)
    labelled = samples.read_as(Vocabulary.of_detector(detector.classes, positive))
    chosen = labelled if split is None else replace(labelled.of_split(split), notes=labelled.notes)
    layers = layers or ([detector.arch.layer] if detector.arch.layer else None)  # whatever was found before
    target, named, places = checked(detector, methods or _usual(detector, layers), layers, positive)
    kinds, notes = _kinds(detector, target, named or (), places, strict=bool(methods))
    names = tuple(dict.fromkeys(method for method, _ in kinds))
    detector = replace(detector, notes=(*detector.notes, *notes))
    network = AskedNetwork(detector, detector.class_index(positive), names, places)
    cases = find_cases(chosen, positive, pairs, masks, QUICK if quick else limit, group_by)
    choice = {"split": split, "pairs": pairs, "masks": str(masks and absolute(masks, UsageError)),
              "limit": limit, "group_by": group_by}  # fmt: skip
    return TrustPlan(detector, network, kinds, cases, source, chosen, choice, quick)


def _usual(detector: Detector, layers: Sequence[str] | None) -> list[str]:
    """Those of `METHODS` for which a layer is known, if they need one."""
    return [name for name in METHODS if detector.arch.layer or layers or not REGISTERED[name].layered]


def _kinds(
    detector: Detector, target: Targets, methods: Sequence[str], layers: Sequence[str], strict: bool
) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    """The maps that there are, and what is to be known of them.

    A method that is undefined for the network is an error if `strict`, else it is left out with a note.
    """
    size = detector.card.preprocessing.size or PROBE
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    kinds: list[Key] = []
    notes: dict[str, None] = {}
    for method in methods:
        try:
            probe = attribute(detector.model, noise.to(detector.device), target, [method], layers)
        except AttributionError as error:
            if strict:
                raise
            notes[str(error)] = None
            continue
        kinds += list(probe)
        notes |= dict.fromkeys(probe.notes)
    if not kinds:
        raise UsageError(f"no method is defined for {detector.arch.name}: {'; '.join(notes)}")
    return tuple(kinds), tuple(notes)
