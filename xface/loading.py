"""`load`: a detector from its weights and its card, with the face crop that the card asks for."""

from __future__ import annotations

import os
from dataclasses import replace

from xface.models import loading
from xface.models.detector import Detector


def load(
    weights: str | os.PathLike[str] | None = None,
    arch: str | None = None,
    device: str = "auto",
    state_key: str | None = None,
    positive: str | None = None,
) -> Detector:
    """Restore a detector from a checkpoint file, or by the name of a bundled one.

    Without `weights` the bundled detector of `arch` is taken (Meso-4 without that too); `"none"` stands
    for an untrained network of `arch`. `device` is auto, cpu, cuda or cuda:N. `state_key` picks one of
    several sets of weights in a file (`model_ema`), `positive` names the class that is the forgery. Where the
    card has a crop, faces are found with dlib's HOG and pictures cropped to them.

    Raises:
        CheckpointError: the weights or their card cannot be restored, or contradict each other.
        UsageError: no such architecture, bundled detector or device. TargetError: no class is `positive`.

    Example:
        >>> load("none", arch="resnet18", device="cpu")
        Detector(resnet18, fake/real, cpu, card none: untrained, seed 0)
    """
    detector = loading.load(weights, arch, device, state_key, positive)
    if detector.card.crop is None:
        return detector
    from xface.data.crops import cropper  # loads dlib

    return replace(detector, cropper=cropper(detector.card.crop))
