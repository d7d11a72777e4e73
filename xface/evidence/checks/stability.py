"""Stability: does a map stay the same where the picture changes in nothing that matters?"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from xface.evidence.checks.check import CHECKS, Check, Figure, Network, Subject, Values, Words
from xface.evidence.checks.randomisation import spearman
from xface.results import ByteArray

QUALITY = 75  # of JPEG
SHIFT = 2  # pixels
NOISE = 4.0  # standard deviation, in levels of 255


def jpeg(pixels: ByteArray, seed: int) -> ByteArray:
    """The picture through JPEG at quality 75."""
    coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def shifted(pixels: ByteArray, seed: int) -> ByteArray:
    """The picture moved 2 pixels down and to the right, its edge repeated."""
    return np.pad(pixels, ((SHIFT, 0), (SHIFT, 0), (0, 0)), "edge")[:-SHIFT, :-SHIFT]


def noisy(pixels: ByteArray, seed: int) -> ByteArray:
    """The picture with Gaussian noise of 4 levels."""
    noise = np.random.default_rng(seed).normal(0, NOISE, pixels.shape)
    return np.rint(pixels + noise).clip(0, 255).astype(np.uint8)


def mirrored(pixels: ByteArray, seed: int) -> ByteArray:
    """The picture, left and right exchanged."""
    return pixels[:, ::-1]


CHANGES = {"jpeg": jpeg, "shift": shifted, "noise": noisy, "mirror": mirrored}


def stability(subject: Subject) -> Values:
    """The correlation of each map, also of the untrained network, with that of each changed picture."""
    count, network = subject.maps, subject.network
    pixels = network.pixels(subject.face.image)
    images = torch.stack([_changed(network, pixels, name, subject.seed) for name in CHANGES])
    again = torch.cat([network.amounts(images), network.amounts(images, network.stages[-1])])
    found = {}
    for place, name in enumerate(CHANGES):
        values = np.full(len(subject), np.nan)
        values[: 2 * count] = spearman(*_aligned(subject.amounts[: 2 * count], again[:, place], name))
        found[Figure(f"stability_{name}")] = values
    return found


def _changed(network: Network, pixels: ByteArray, name: str, seed: int) -> Tensor:
    return network.prepared(np.ascontiguousarray(CHANGES[name](pixels, seed)))


def _aligned(before: Tensor, after: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The maps (K, H, W), so that the same places of the face lie on each other."""
    if name == "mirror":
        return before, after.flip(-1)
    if name == "shift":
        return before[:, :-SHIFT, :-SHIFT], after[:, SHIFT:, SHIFT:]
    return before, after


_ABOUT = "Spearman's correlation, over pixels, with the map of the same picture {}"
CHECKS.add(
    "stability",
    Check(
        stability,
        {
            "stability_jpeg": Words(
                "stable under JPEG", _ABOUT.format("through JPEG at quality 75"), limits=(-1, 1)
            ),
            "stability_shift": Words(
                "stable under a shift", _ABOUT.format("moved by 2 pixels"), limits=(-1, 1)
            ),
            "stability_noise": Words(
                "stable under noise", _ABOUT.format("with noise of 4 of 255 levels"), limits=(-1, 1)
            ),
            "stability_mirror": Words(
                "stable when mirrored", _ABOUT.format("mirrored, mirrored back"), limits=(-1, 1)
            ),
        },
        source="xface",
        most=60,
    ),
)
