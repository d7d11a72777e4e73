"""Detectors: a restored network, its card and its preprocessing, ready to predict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from xface.detectors.card import Card
from xface.detectors.crops import crop_of, prepare_cropped
from xface.errors import CheckpointError, ImageError, UsageError
from xface.faces import find_face
from xface.faces.landmarks import DEFAULT
from xface.images.pictures import Picture, read_picture
from xface.networks.architectures import Architecture
from xface.preprocessing import Prepared
from xface.results import ByteArray, Face, Prediction

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | ByteArray | Picture"

BATCH = 16


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A network that tells real from forged faces, with all that is needed to ask it.

    `model` is in evaluation mode on `device` and takes the tensors that `prepare` makes. `weights_sha256` is
    the weights file's, None for an untrained network (then `trained` is False too). `notes` say what of the
    file was left out, and whether it is known which class is the forgery. `face_detector`, a name of
    `xface.faces.LANDMARKERS`, finds the face to crop to and to measure maps in.
    """

    arch: Architecture
    model: nn.Module
    card: Card
    device: torch.device
    weights_sha256: str | None = None
    trained: bool = True
    notes: tuple[str, ...] = ()
    face_detector: str = DEFAULT

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self.card.classes

    def class_index(self, name: str) -> int:
        """The index of a class, in any spelling of case; raises TargetError for a name that is none."""
        return self.card.class_index(name)

    def prepare(self, picture: Picture, face: Face | None = None) -> Prepared:
        """The picture as this network sees it, as the card says.

        Where the card asks for a crop, it is cropped to `face`, found by the face detector if it is None;
        without a crop none is looked for.

        Raises:
            ImageError: it is too small for the network.
        """
        crop = crop_of(self.card.crop)
        if crop is not None and face is None:
            face = find_face(picture.pixels, self.face_detector)
        prepared = prepare_cropped(picture, self.card.preprocessing, crop, face.landmarks if face else None)
        height, width = prepared.view.shape[:2]
        if self.card.preprocessing.size is None and not takes(self.model, (height, width)):
            raise ImageError(
                f"cannot prepare {picture.name!r}: {self.arch.name} cannot take its {width}x{height} pixels; "
                "give a larger picture, or a size on the card"
            )
        return prepared

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
            >>> from xface.detectors import load
            >>> [prediction] = load("none", arch="resnet18").predict(np.zeros((64, 64, 3), np.uint8))
            >>> sorted(prediction.probabilities)
            ['fake', 'real']
        """
        single = isinstance(images, (str, os.PathLike, Image.Image, Picture, np.ndarray))
        many: Iterator[Any] = iter([images] if single else images)  # type: ignore[arg-type]
        verdicts: list[Prediction] = []
        while part := list(islice(many, BATCH)):
            seen = [self._seen(image) for image in part]
            for _, alike in groupby(seen, key=lambda one: one.tensor.shape):
                verdicts += self._verdicts(list(alike))
        return verdicts

    def _seen(self, image: ImageLike) -> Prepared:
        picture = image if isinstance(image, Picture) else read_picture(image)
        prepared = self.prepare(picture)
        return replace(prepared, notes=(*picture.notes, *prepared.notes))

    def _verdicts(self, alike: list[Prepared]) -> list[Prediction]:
        found = self.verdicts(self.logits(torch.stack([one.tensor for one in alike])))
        return [replace(verdict, notes=one.notes) for verdict, one in zip(found, alike, strict=True)]

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
        rows, called = self.probabilities(logits).tolist(), self.called(logits).tolist()
        return [
            Prediction(
                self.classes[index], row[index], dict(zip(self.classes, row, strict=True)), self.card.positive
            )
            for row, index in zip(rows, called, strict=True)
        ]

    def called(self, logits: Tensor) -> Tensor:
        """The class that each row of raw outputs is called, (N,): the likeliest, or as the threshold says."""
        probabilities = self.probabilities(logits)
        likeliest = probabilities.argmax(dim=1)
        if self.card.threshold is None or self.card.positive is None:
            return likeliest
        positive = self.class_index(self.card.positive)
        others = probabilities.index_fill(1, torch.tensor(positive, device=logits.device), -1.0).argmax(dim=1)
        return others.where(
            probabilities[:, positive] < self.card.threshold, torch.full_like(others, positive)
        )

    def to_json(self) -> dict[str, Any]:
        """What an output says: architecture, if trained, weights' SHA-256, card, notes, face detector.

        Of the card's `trust` each map says its own part.
        """
        card = {name: value for name, value in self.card.to_json().items() if name != "trust"}
        return {
            "arch": self.arch.name,
            "trained": self.trained,
            "weights_sha256": self.weights_sha256,
            "card": card,
            "notes": list(self.notes),
            "face_detector": self.face_detector,
        }

    def __repr__(self) -> str:
        classes = "/".join(self.classes)
        return f"Detector({self.arch.name}, {classes}, {self.device}, card {self.card.source})"


def takes(model: nn.Module, size: tuple[int, int]) -> bool:
    """Whether a network can take images of `size` (height, width); found without storage or computing."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    empty = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        with torch.no_grad():
            functional_call(model, empty, torch.empty(1, 3, *size, device="meta"))
    except (RuntimeError, ValueError, AssertionError, UsageError):
        return False
    return True
