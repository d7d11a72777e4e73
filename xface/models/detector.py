"""Detectors: a restored network, its card and its preprocessing, ready to predict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from xface.errors import CheckpointError, DeviceError, UnknownNameError, UsageError
from xface.images import Picture, read_picture
from xface.models.architectures import ARCHITECTURES, Architecture
from xface.models.bundled import bundled
from xface.models.card import Card, card_path, read_card
from xface.models.checkpoint import Checkpoint, read_checkpoint, refusal
from xface.models.class_names import class_names
from xface.models.preprocessing import PRESETS, Prepared
from xface.models.recognition import restore
from xface.results import ByteArray, Prediction

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | ByteArray | Picture"

UNTRAINED = "none"
UNTRAINED_SEED = 0
DEFAULT_ARCH = "meso4"
BATCH = 16


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A network that tells real from forged faces, with all that is needed to ask it.

    `model` is in evaluation mode on `device` and takes the tensors that `prepare` makes. `weights_sha256` is
    the weights file's, None for an untrained network (then `trained` is False too).
    """

    arch: Architecture
    model: nn.Module
    card: Card
    device: torch.device
    weights_sha256: str | None = None
    trained: bool = field(default=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self.card.classes

    def class_index(self, name: str) -> int:
        """The index of a class, in any spelling of case; raises TargetError for a name that is none."""
        return self.card.class_index(name)

    def prepare(self, picture: Picture) -> Prepared:
        """The picture as this network sees it, as the card says."""
        return self.card.preprocessing.prepare(picture)

    @torch.inference_mode()
    def logits(self, batch: Tensor) -> Tensor:
        """Raw outputs (N, classes), or (N, 1) of a one-logit head, for prepared tensors (N, 3, H, W)."""
        outputs: Tensor = self.model(batch.to(self.device))
        return outputs

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits as probabilities (N, classes): softmax, or of one logit z (sigmoid(-z), sigmoid(z))."""
        if logits.shape[1] == 1:
            return torch.cat([-logits, logits], dim=1).float().sigmoid()
        return logits.float().softmax(dim=1)

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[Prediction]:
        """One verdict per image: paths, PIL images, uint8 RGB arrays or pictures, one or many.

        Raises:
            ImageError: for the first image that cannot be read.

        Example:
            >>> [prediction] = load("none", arch="resnet18").predict(np.zeros((64, 64, 3), np.uint8))
            >>> sorted(prediction.probabilities)
            ['fake', 'real']
        """
        single = isinstance(images, (str, os.PathLike, Image.Image, Picture, np.ndarray))
        many: Iterator[Any] = iter([images] if single else images)  # type: ignore[arg-type]
        verdicts: list[Prediction] = []
        while part := list(islice(many, BATCH)):
            pictures = (image if isinstance(image, Picture) else read_picture(image) for image in part)
            batch = torch.stack([self.prepare(picture).tensor for picture in pictures])
            verdicts += self.verdicts(self.logits(batch))
        return verdicts

    def verdicts(self, logits: Tensor) -> list[Prediction]:
        """One verdict per row of raw outputs, (N, classes) or (N, 1).

        Raises:
            CheckpointError: some are NaN or infinite, from which no label follows.
        """
        if not logits.isfinite().all():
            raise CheckpointError(
                f"the network gives no finite logits for this input ({self!r}); use other weights, "
                "or correct the preprocessing on their card"
            )
        return [self._verdict(row) for row in self.probabilities(logits).tolist()]

    def _verdict(self, probabilities: list[float]) -> Prediction:
        by_name = dict(zip(self.classes, probabilities, strict=True))
        label = max(by_name, key=by_name.__getitem__)
        return Prediction(label, by_name[label], by_name)

    def to_json(self) -> dict[str, Any]:
        """What an output says of its detector: architecture, SHA-256 of the weights, card."""
        return {"arch": self.arch.name, "weights_sha256": self.weights_sha256, "card": self.card.to_json()}

    def __repr__(self) -> str:
        classes = "/".join(self.classes)
        return f"Detector({self.arch.name}, {classes}, {self.device}, card {self.card.source})"


def load(
    weights: str | os.PathLike[str] | None = None, arch: str | None = None, device: str = "auto"
) -> Detector:
    """Restore a detector from a checkpoint file, or by the name of a bundled one.

    Without `weights` the bundled detector of `arch` is taken (Meso-4 without that too); `"none"` stands
    for an untrained network of `arch`. `device` is auto, cpu, cuda or cuda:N.

    Raises:
        CheckpointError: the weights or their card cannot be restored, or contradict each other.
        UsageError: no such architecture, bundled detector or device.

    Example:
        >>> load("none", arch="resnet18", device="cpu")
        Detector(resnet18, fake/real, cpu, card none: untrained, seed 0)
    """
    place = _device(device)
    if arch is not None:
        ARCHITECTURES[arch]  # raises for an unknown name, before any file is read
    if weights == UNTRAINED:
        return _untrained(ARCHITECTURES[arch or DEFAULT_ARCH], place)
    path, origin = _find(weights, arch)
    checkpoint = read_checkpoint(path)
    card = _card_beside(path, checkpoint.sha256, origin)
    said = (arch, "the call") if arch or not card else (card.arch, f"the card {card.source}")
    architecture, model = restore(checkpoint, *said)
    card = card or _assumed_card(architecture, checkpoint, _class_count(architecture, model))
    _check_classes(card, checkpoint.path, _class_count(architecture, model))
    _check_size(card, architecture)
    return Detector(architecture, _placed(model, place), card, place, checkpoint.sha256)


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
    card = Card(arch.name, ("fake", "real"), PRESETS[arch.preprocessing], source=source)
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
    if path.name == os.fspath(weights) and not path.suffix and not path.exists():
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


def _card_beside(path: Path, sha256: str, origin: str | None) -> Card | None:
    """The card beside the file, or, if that is a link, beside what it leads to."""
    found = next((card for card in map(card_path, (path, path.resolve())) if card.exists()), None)
    if found is None:
        return None
    card = read_card(found, sha256)
    return replace(card, source=f"bundled:{origin}") if origin else card


def _assumed_card(arch: Architecture, checkpoint: Checkpoint, class_count: int) -> Card:
    """What is likely where there is no card; its source says so."""
    is_seed = checkpoint.format == "seed"
    preset = "seed" if is_seed else arch.preprocessing
    named = class_names(checkpoint, class_count)
    if named is None and class_count != 2:
        raise refusal(
            checkpoint.path,
            f"its head has {class_count} classes and nothing names them; "
            f"write a card {card_path(checkpoint.path).name} beside it, with `classes`",
        )
    classes = named or (("Fake", "Real") if is_seed else ("fake", "real"))
    whence = "of the checkpoint" if named else "assumed"
    source = f"assumed: {preset} preset; classes {', '.join(classes)} {whence}"
    return Card(arch.name, classes, PRESETS[preset], sha256=checkpoint.sha256, source=source)


def _class_count(arch: Architecture, model: nn.Module) -> int:
    """How many classes a head tells apart: one logit is enough for two."""
    rows: int = model.get_parameter(f"{arch.head}.weight").shape[0]
    return max(rows, 2)


def _check_classes(card: Card, path: Path, class_count: int) -> None:
    if len(card.classes) != class_count:
        raise refusal(
            path,
            f"its head has {class_count} classes, but its card ({card.source}) names {len(card.classes)}: "
            f"{', '.join(card.classes)}; correct the card, or give the weights that it describes",
        )


def _check_size(card: Card, arch: Architecture) -> None:
    """Try a size other than the usual one on a network without storage."""
    height, width = card.preprocessing.size
    if (height, width) == PRESETS[arch.preprocessing].size:
        return
    try:
        with torch.device("meta"):
            arch.build(2).eval()(torch.empty(1, 3, height, width))
    except RuntimeError as error:
        raise CheckpointError(
            f"the card ({card.source}) asks for inputs of {height}x{width}, which {arch.name} cannot take; "
            f"correct its preprocessing (usual: {PRESETS[arch.preprocessing].size})"
        ) from error
