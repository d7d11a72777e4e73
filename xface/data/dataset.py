"""The dataset: from samples to tensors, labels and indices, the same for the same seed, epoch and index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from xface.data.augmentation import Augmentations, RandomCrop
from xface.data.labelled_pictures import Samples
from xface.data.labels import CLASSES
from xface.data.reading import read_ahead
from xface.data.samplers import matched
from xface.data.self_blending import SelfBlending, self_blend
from xface.data.views import ReadViews, View, Views, stored_views
from xface.data.workers import ending_with_this_process, quieten_opencv
from xface.detectors.crops import Crop
from xface.errors import DataError, ImageError
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import Picture
from xface.preprocessing import Preprocessing
from xface.results import ByteArray, FloatArray

UNREADABLE, FACELESS = 1, 2

Item = tuple[Tensor, int, int]
"""Tensor (3, H, W) float32, label index, index of the sample whose picture it is."""


@dataclass(frozen=True, eq=False)
class FaceSample:
    """What the network gets of one sample, before colour order and normalisation.

    `view` is uint8 RGB (H, W, 3); `index` the sample whose picture it is; `mask` is float32 (H, W) in 0..1,
    the manipulated region of a self-blended image, None for others.
    """

    view: ByteArray = field(repr=False)
    label: int
    index: int
    mask: FloatArray | None = field(default=None, repr=False)


class FaceDataset(Dataset[Item]):
    """Samples as tensors: read, cropped, resized, self-blended, cropped at random, augmented, normalised.

    Without random crop, augmentation and blending a tensor is, bit for bit, what `preprocessing.prepare`
    makes of the (cropped) picture. What is random is decided by (seed, epoch, index) alone:
    `dataset[epoch, index]`, the keys that `xface.data.samplers` gives; `dataset[index]` is epoch 0.

    A picture that cannot be read is replaced by the next one (in the order of the samples, from the end to
    the start) of its class that can; the index returned is of that one, so that scores written at
    their index are right and nothing is written for the unreadable. `unreadable()` lists them once each, also
    those met by workers. A picture without a face is left uncropped and isn't blended; `faceless()` counts
    them.

    Args:
        samples: the pictures and their classes.
        preprocessing: as the network's card has it.
        classes: the order of the label indices.
        crop: the face crop, see `xface.detectors.crops.face_crop`.
        augment: changes of the view, see `xface.data.augmentation.augmentations`.
        blending: how real faces become self-blended fakes (`fake` must be one of the classes).
        random_crop: squares that are cut from the views.
        paired: whether a fake and the real face that it was made from are cropped and augmented alike.
        seed: what decides all that is random.
        landmarks: where landmarks are kept; the user's cache folder if None.
        cache: a folder for the views, which are then read once and shared by all workers.
        workers: processes that fill the cache.

    Raises:
        DataError: there are no samples, or one is of no class.

    Example:
        >>> from xface.data.labelled_pictures import read_samples
        >>> faces = FaceDataset(read_samples("samples.csv"), PRESETS["opencv_bgr"])  # doctest: +SKIP
        >>> tensor, label, index = faces[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        classes: Sequence[str] = CLASSES,
        *,
        crop: Crop | None = None,
        augment: Augmentations | None = None,
        blending: SelfBlending | None = None,
        random_crop: RandomCrop | None = None,
        paired: bool = False,
        seed: int = 0,
        landmarks: LandmarkStore | None = None,
        cache: str | os.PathLike[str] | None = None,
        workers: int = 0,
    ) -> None:
        if not len(samples):
            raise DataError("there are no samples; check the data and how it is split")
        self.samples, self.preprocessing, self.classes = samples, preprocessing, tuple(classes)
        self.random_crop, self.augment, self.blending, self.seed = random_crop, augment, blending, seed
        self._partner = _partners(samples) if paired else {}
        self._labels = samples.label_indices(self.classes)
        self._blendable = _blendable(samples, blending)
        if self._blendable and "fake" not in self.classes:
            raise DataError(f"self-blended images are fake, which is none of {', '.join(self.classes)}")
        self._searched = crop is not None or blending is not None
        store = (landmarks or LandmarkStore()) if self._searched else None
        read = ReadViews(samples.paths, preprocessing, crop, store)
        self.views: Views = read if cache is None else stored_views(read, cache, workers)
        self._normal = replace(preprocessing, size=None, shorter_side=None)
        # workers write into it too
        self.found = torch.zeros(len(samples), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = (0, int(key)) if not isinstance(key, tuple) else key
        sample = self.sample(epoch, index)
        return self.normalised(sample.view), sample.label, sample.index

    def sample(self, epoch: int, index: int) -> FaceSample:
        """One sample as the network gets it in an epoch, as a picture; DataError if none is readable."""
        index, view = self._readable(index)
        rng = np.random.default_rng((self.seed, epoch, index))
        pixels, label, mask = view.pixels, int(self._labels[index]), None
        if blend := self._blend(index, view, rng):
            pixels, label, mask = blend[0], self.classes.index("fake"), blend[1]
        if index in self._partner:
            rng = np.random.default_rng((self.seed, epoch, self._partner[index]))
        for change in (self.random_crop, self.augment):
            if change is not None:
                pixels, mask = change(pixels, rng, mask)
        return FaceSample(pixels, label, index, mask)

    def normalised(self, view: ByteArray) -> Tensor:
        """A view (H, W, 3) as the network's tensor (3, H, W), float32."""
        return self._normal.prepare(Picture("view", view)).tensor

    def unreadable(self) -> dict[str, str]:
        """The path and the reason of each picture that was found unreadable so far."""
        rows = (self.found == UNREADABLE).nonzero()[:, 0].tolist()
        return {self.samples.paths[row]: self._reason(row) for row in rows}

    def faceless(self) -> int:
        """The number of pictures in which, so far, no face was found where one was looked for."""
        return int((self.found == FACELESS).sum())

    def inspect(self, workers: int = 0) -> None:
        """Look at every picture once, so that `unreadable` and `faceless` are complete."""
        for _ in read_ahead(self._is_readable, len(self), workers):
            pass

    def _readable(self, index: int) -> tuple[int, View]:
        label = self._labels[index]
        for step in range(len(self)):
            row = (index + step) % len(self)
            if self._labels[row] == label and (view := self.look(row)):
                return row, view
        raise DataError(f"no picture of the class {self.classes[label]} can be read: {self._reason(index)}")

    def look(self, row: int) -> View | None:
        """The view of one sample, None if it cannot be read; remembers what it finds."""
        if self.found[row] == UNREADABLE:
            return None
        try:
            view = self.views.view(row)
        except ImageError:
            self.found[row] = UNREADABLE
            return None
        if self._searched and view.landmarks is None:
            self.found[row] = FACELESS
        return view

    def _is_readable(self, row: int) -> bool:
        return self.look(row) is not None

    def _reason(self, row: int) -> str:
        try:
            self.views.view(row)
        except ImageError as error:
            return str(error)
        return "it could not be read before, but can be now"

    def _blend(self, index: int, view: View, rng: np.random.Generator) -> tuple[ByteArray, FloatArray] | None:
        if self.blending is None or index not in self._blendable:
            return None
        if rng.random() >= self.blending.probability:
            return None
        origin = self._blendable[index]
        face = view if origin == index else self.look(origin)
        if face is None or face.landmarks is None:
            return None
        blend = self_blend(face.pixels, face.landmarks, rng, self.blending)
        return (blend.image, blend.mask) if blend else None


def _partners(samples: Samples) -> dict[int, int]:
    """Of each pair the sample that takes after the other: the fake, of which a real face can have several."""
    labels = samples.labels
    return dict(
        pair if labels[pair[1]] == "real" else pair[::-1] for pair in map(tuple, matched(samples).tolist())
    )


def _blendable(samples: Samples, blending: SelfBlending | None) -> dict[int, int]:
    """The samples that may be replaced by a self-blended image, and the real face that it is made of."""
    if blending is None:
        return {}
    labels = samples.labels
    if blending.of == "real":
        return {row: row for row, label in enumerate(labels) if label == "real"}
    pairs = matched(samples).tolist()
    both = [pair for first, second in pairs for pair in ((first, second), (second, first))]
    return {fake: real for fake, real in both if (labels[fake], labels[real]) == ("fake", "real")}


def loader(
    dataset: FaceDataset,
    batch_size: int,
    sampler: Sampler[Any] | None = None,
    workers: int = 0,
    drop_last: bool = False,
) -> DataLoader[Item]:
    """A DataLoader of batches (tensors (N, 3, H, W), labels (N,), indices (N,)).

    Without a sampler the samples come in their order, all of epoch 0, as for evaluation. Workers stay through
    all epochs. Its own seed is fixed, so that it takes nothing from torch's state.
    """
    quieten_opencv(workers)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=drop_last,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=ending_with_this_process(),
    )
