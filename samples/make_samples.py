"""Make the sample faces again: `python samples/make_samples.py [FOLDER]`.

real.jpg is the face of the astronaut portrait that scikit-image ships; fake.jpg is that face with its mouth
replaced by an altered copy of itself, and fake_mask.png says where and how much: a self-blended image after
Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022), of one part of the face.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from xface.faces import find_face
from xface.results import ByteArray, FloatArray

SEED = 5
FACE = (151, 46, 301, 196)  # left, top, right, bottom in the portrait of 512 px
SIDE = 288
MOUTH = slice(48, 60)  # the outer lips among the 68 points
MARGIN, SOFTNESS = 0.05, 0.04  # of the mask around the lips, in mouth widths
JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}

Floats = NDArray[np.float32]


def real_face() -> ByteArray:
    """The portrait's face, (288, 288, 3)."""
    portrait = Image.fromarray(astronaut())
    return np.array(portrait.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=FACE))


def blend_mask(lips: FloatArray) -> Floats:
    """The dilated and blurred hull of the lips, (288, 288) in 0..1; exactly 0 away from them."""
    width = float(np.ptp(lips[:, 0]))
    hull = cv2.convexHull(np.rint(lips).astype(np.int32))
    mask = cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.float32), hull, 1.0)
    reach, blur = round(MARGIN * width), 2 * round(SOFTNESS * width) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.GaussianBlur(cv2.dilate(mask, disc), (2 * blur + 1, 2 * blur + 1), 0))


def altered_copy(face: ByteArray, centre: FloatArray, chance: np.random.Generator) -> Floats:
    """The face moved and enlarged about `centre`, recoloured and sharpened: the source of the blend."""
    scale, shift = chance.uniform(1.05, 1.09), chance.uniform(-0.008, 0.008, 2) * SIDE
    offset = centre + shift - scale * centre
    moved = cv2.warpAffine(
        face.astype(np.float32),
        np.array([[scale, 0, offset[0]], [0, scale, offset[1]]]),
        (SIDE, SIDE),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    sharp = moved + chance.uniform(0.6, 0.9) * (moved - cv2.GaussianBlur(moved, (0, 0), 2.0))
    contrast, tint = chance.uniform(0.9, 1.0), chance.uniform(-12, 12, 3)
    return np.asarray((sharp - 128) * contrast + 128 + tint, np.float32)


def self_blend(face: ByteArray, seed: int = SEED) -> tuple[ByteArray, ByteArray]:
    """Blend an altered copy of the mouth into the face; gives the forgery and its mask (0-255)."""
    landmarks = find_face(face).landmarks
    assert landmarks is not None, "no face found in the portrait"
    lips = landmarks[MOUTH]
    mask = np.rint(255 * blend_mask(lips)).astype(np.uint8)
    source = altered_copy(face, lips.mean(axis=0), np.random.default_rng(seed))
    weight = mask[:, :, None] / 255
    blended = weight * source + (1 - weight) * face
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8), mask


def main(folder: Path) -> None:
    """Write real.jpg, fake.jpg and fake_mask.png into the folder."""
    face = real_face()
    forgery, mask = self_blend(face)
    Image.fromarray(face).save(folder / "real.jpg", **JPEG)
    Image.fromarray(forgery).save(folder / "fake.jpg", **JPEG)
    Image.fromarray(mask).save(folder / "fake_mask.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
