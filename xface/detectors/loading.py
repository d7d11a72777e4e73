"""Loading: from a weights file, or a bundled detector's name, to a detector."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from xface.detectors.bundled import bundled
from xface.detectors.card import Card, card_path, read_card
from xface.detectors.checkpoints.checkpoint import Checkpoint, read_checkpoint
from xface.detectors.class_names import class_names
from xface.detectors.detector import Detector, takes
from xface.detectors.recognition import Restored, restore
from xface.errors import CheckpointError, DeviceError, UnknownNameError, UsageError, refusal
from xface.faces.landmarks import DEFAULT, LANDMARKERS
from xface.files.paths import status
from xface.networks.architectures import Architecture
from xface.networks.zoo import architecture
from xface.preprocessing import PRESETS, preset_name

UNTRAINED = "none"
UNTRAINED_SEED = 0
DEFAULT_ARCH = "meso4"
LISTED = 10
ODD_SIZE = (421, 543)  # of a picture that keeps its own size: nothing that a network could expect


def load(
    weights: str | os.PathLike[str] | None = None,
    arch: str | None = None,
    device: str = "auto",
    state_key: str | None = None,
    positive: str | None = None,
    face_detector: str = DEFAULT,
) -> Detector:
    """Restore a detector from a checkpoint file, or by the name of a bundled one.

    Without `weights` the bundled detector of `arch` is taken (Meso-4 without that too); `"none"` stands
    for an untrained network of `arch`. `device` is auto, cpu, cuda or cuda:N. `state_key` picks one of
    several sets of weights in a file (`model_ema`), `positive` names the class that is the forgery.
    `face_detector`, a name of `xface.faces.LANDMARKERS`, finds the faces; where the card has a crop, pictures
    are cropped to them.

    Raises:
        CheckpointError: the weights or their card cannot be restored, or contradict each other.
        UsageError: no such architecture, bundled detector, device or face detector. TargetError: no class is
            `positive`.

    Example:
        >>> load("none", arch="resnet18", device="cpu")
        Detector(resnet18, fake/real, cpu, card none: untrained, seed 0)
    """
    place = _device(device)
    if arch is not None:
        architecture(arch)  # raises for an unknown name, before any file is read
    LANDMARKERS[face_detector]  # raises likewise
    if weights == UNTRAINED:
        untrained = _untrained(architecture(arch or DEFAULT_ARCH), place)
        return _with_positive(replace(untrained, face_detector=face_detector), positive)
    found = open_weights(weights, arch, state_key)
    found.check(found.card)
    arch_found, sha256 = found.restored.arch, found.checkpoint.sha256
    model = _placed(found.restored.model, place)
    restored = Detector(arch_found, model, found.card, place, sha256, face_detector=face_detector)
    detector = _with_positive(restored, positive)
    return replace(detector, notes=(*found.notes, *detector.card.notes_on_use))


@dataclass(frozen=True)
class Opened:
    """A weights file, the network it was restored to, and its card: the one at `card_file`, or assumed."""

    checkpoint: Checkpoint
    restored: Restored
    card: Card
    card_file: Path | None

    def check(self, card: Card) -> None:
        """Raise CheckpointError unless `card` fits the network: its number of classes, its input size."""
        _check_classes(card, self.checkpoint.path, _class_count(self.restored))
        _check_size(card, self.restored)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the file was left out, and which other weights are in it."""
        return _notes(self.checkpoint, self.restored)


def open_weights(
    weights: str | os.PathLike[str] | None,
    arch: str | None = None,
    state_key: str | None = None,
    classes: tuple[str, ...] | None = None,
) -> Opened:
    """Restore a network and find its card, which may not fit yet; `classes` serve where there is no card.

    Raises:
        CheckpointError: the weights or their card cannot be restored.
        UsageError: no such architecture or bundled detector.

    Example:
        >>> open_weights("meso4").card.source
        'bundled:meso4'
    """
    path, origin = _find(weights, arch)
    checkpoint = read_checkpoint(path, state_key)
    card_file = _card_file(path)
    card = read_card(card_file, checkpoint.sha256) if card_file else None
    if card and origin:
        card = replace(card, source=f"bundled:{origin}")
    said = (arch, "the call") if arch or not card else (card.arch, f"the card {card.source}")
    restored = restore(checkpoint, *said)
    return Opened(checkpoint, restored, card or assumed_card(restored, checkpoint, classes), card_file)


def _with_positive(detector: Detector, name: str | None) -> Detector:
    if name is None:
        return detector
    card, spelled = detector.card, detector.classes[detector.class_index(name)]
    if card.threshold is not None and spelled != card.positive:
        raise UsageError(
            f"the threshold {card.threshold} on the card was set for {card.positive!r}, not for {spelled!r}; "
            "set both on the card: xface card FILE --positive NAME --threshold P"
        )
    source = f"{card.source}; positive class {spelled} given"
    return replace(detector, card=replace(card, positive=spelled, source=source))


def _notes(checkpoint: Checkpoint, restored: Restored) -> tuple[str, ...]:
    notes = []
    if restored.unused:
        listed = ", ".join(restored.unused[:LISTED])
        more = f" and {len(restored.unused) - LISTED} more" if len(restored.unused) > LISTED else ""
        notes.append(f"left out of the file, as no part of the network: {listed}{more}")
    if restored.alike:
        others = ", ".join(restored.alike)
        notes.append(f"read as {restored.arch.name}, but may be {others}: choose one with --arch")
    if checkpoint.state_keys:
        keys = ", ".join(map(repr, checkpoint.state_keys))
        notes.append(f"the file also holds weights under {keys}; --state-key takes them")
    return tuple(notes)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (":" in name and not index.isdecimal())):
        raise DeviceError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name!r}: there is no CUDA on this machine; use cpu or auto")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r}: this machine has {torch.cuda.device_count()}, counted from cuda:0"
        )
    return torch.device(name)


def _untrained(arch: Architecture, device: torch.device) -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(UNTRAINED_SEED)  # unlike torch.manual_seed: the CPU's alone
        model = arch.build(2).eval().requires_grad_(False)
    source = f"none: untrained, seed {UNTRAINED_SEED}"
    card = Card(arch.name, ("fake", "real"), arch.preprocessing, source=source)
    return Detector(arch, _placed(model, device), card, device, trained=False)


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """On its device and channels last: ResNet-18 on two CPU cores then takes 1.2 to 1.5 times less time."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _find(weights: str | os.PathLike[str] | None, arch: str | None) -> tuple[Path, str | None]:
    """The weights file, and the bundled detector's name if it is one."""
    known = bundled()
    if weights is None:
        weights = _bundled_for(arch or DEFAULT_ARCH, known)
    path = Path(weights)
    if isinstance(weights, str) and weights in known:
        return known[weights], weights
    named = path.name == os.fspath(weights) and not path.suffix
    if named and status(path, CheckpointError) is None:
        remedy = "Or give the path of a weights file, or 'none' for an untrained network."
        raise UnknownNameError("bundled detector", str(weights), known, remedy)
    return path, None


def _bundled_for(arch: str, known: dict[str, Path]) -> str:
    for name, path in known.items():
        if read_card(card_path(path)).arch == arch:
            return name
    raise UsageError(
        f"there are no bundled weights for {arch} (only: {', '.join(known) or 'none at all'}); "
        "give a weights file, or 'none' for an untrained network"
    )


def _card_file(path: Path) -> Path | None:
    """The card beside the file, or, if that is a link, beside what it leads to."""
    places = map(card_path, (path, Path(os.path.realpath(path))))
    return next((place for place in places if status(place, CheckpointError) is not None), None)


def assumed_card(restored: Restored, checkpoint: Checkpoint, classes: tuple[str, ...] | None = None) -> Card:
    """What is likely where there is no card; its source says so. `classes` are those given in the call.

    Raises:
        CheckpointError: there are more than two classes, and nothing names them.
    """
    is_sungs = checkpoint.format == "sung"
    preprocessing = PRESETS["opencv_bgr"] if is_sungs else restored.arch.preprocessing
    class_count = _class_count(restored)
    named = classes or class_names(checkpoint, class_count)
    if named is None and class_count != 2:
        raise refusal(
            checkpoint.path,
            f"its head has {class_count} classes and nothing names them; "
            f"write a card {card_path(checkpoint.path).name} beside it, with `classes` (xface card --help)",
        )
    likely = named or (("Fake", "Real") if is_sungs else ("fake", "real"))
    whence = "given" if classes else "of the checkpoint" if named else "assumed"
    preset = preset_name(preprocessing)
    how = f"{preset} preset" if preset else f"preprocessing {preprocessing}"
    source = f"assumed: {how}; classes {', '.join(likely)} {whence}"
    return Card(restored.arch.name, likely, preprocessing, sha256=checkpoint.sha256, source=source)


def _class_count(restored: Restored) -> int:
    """How many classes a head tells apart: one logit is enough for two."""
    rows: int = restored.model.get_parameter(f"{restored.arch.head}.weight").shape[0]
    return max(rows, 2)


def _check_classes(card: Card, path: Path, class_count: int) -> None:
    if len(card.classes) != class_count:
        raise refusal(
            path,
            f"its head has {class_count} classes, but its card ({card.source}) names {len(card.classes)}: "
            f"{', '.join(card.classes)}; correct the card, or give the weights that it describes",
        )


def _check_size(card: Card, restored: Restored) -> None:
    """Try a size other than the usual one."""
    usual, size = restored.arch.preprocessing.size, card.preprocessing.size
    if size == usual or takes(restored.model, size or ODD_SIZE):
        return
    asked = f"inputs of {size[0]}x{size[1]}" if size else "pictures in their own sizes"
    raise CheckpointError(
        f"the card ({card.source}) asks for {asked}, which {restored.arch.name} cannot take; "
        f"correct its preprocessing (usual: {usual})"
    )
