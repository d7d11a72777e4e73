"""Pairs and masks: where a forgery differs from the real picture that it was made from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from xface.results import ByteArray, FloatArray

Mask = NDArray[np.bool_]

WINDOW = 5
"""Pixels across which a difference is averaged, so that compression is not taken for manipulation."""

THRESHOLD = 15.0
"""Levels of 255 from which on such a difference, the greatest of the three colours, is a manipulation."""

FRAME = 0.05
"""Of each side: the frame in which the two pictures of a pair should be alike."""

UNALIGNED = 10.0
"""Levels of 255: where the median difference in the frame is more, the pictures are of different scenes."""

LEAST, MOST = 0.005, 0.6
"""Parts of the picture: with less, nothing visible was changed; with more, the pictures are not aligned."""


def misaligned(forged: ByteArray, real: ByteArray) -> str:
    """Why a pair of pictures (H, W, 3) do not lie on each other, "" if they do.

    Example:
        >>> grey = np.full((40, 40, 3), 90, np.uint8)
        >>> misaligned(grey, grey), misaligned(grey, grey + 100)
        ('', 'the pair is unaligned: its pictures differ in the frame too')
    """
    if forged.shape != real.shape:
        sizes = " and ".join(f"{each.shape[1]}x{each.shape[0]}" for each in (forged, real))
        return f"the pair has two sizes: {sizes} pixels"
    if np.median(_difference(forged, real)[_frame(forged.shape[:2])]) > UNALIGNED:
        return "the pair is unaligned: its pictures differ in the frame too"
    if _differs(forged, real).mean() > MOST:
        return f"the pair is unaligned: over {MOST:.0%} of its pixels differ"
    return ""


def difference_mask(forged: ByteArray, real: ByteArray) -> tuple[Mask | None, str]:
    """The manipulated pixels (H, W) of a pair of pictures (H, W, 3) and "", or None and why there are none.

    Example:
        >>> real = np.full((40, 40, 3), 90, np.uint8)
        >>> forged = real.copy()
        >>> forged[10:20, 10:20] = 200
        >>> mask, reason = difference_mask(forged, real)
        >>> bool(mask[15, 15]), bool(mask[30, 30]), reason
        (True, False, '')
        >>> difference_mask(forged[:, :30], real)[1]
        'the pair has two sizes: 30x40 and 40x40 pixels'
    """
    if reason := misaligned(forged, real):
        return None, reason
    mask = _differs(forged, real)
    if mask.mean() < LEAST:
        return None, f"the pair hardly differs: in under {LEAST:.1%} of its pixels"
    return mask, ""


def _difference(forged: ByteArray, real: ByteArray) -> FloatArray:
    """Levels (H, W), of the colour that differs most."""
    found: FloatArray = np.abs(forged.astype(np.float32) - real.astype(np.float32)).max(axis=2)
    return found


def _differs(forged: ByteArray, real: ByteArray) -> Mask:
    return np.asarray(cv2.blur(_difference(forged, real), (WINDOW, WINDOW)) >= THRESHOLD)


def _frame(size: tuple[int, ...]) -> Mask:
    inner = tuple(slice(max(1, round(FRAME * side)), -max(1, round(FRAME * side))) for side in size)
    frame = np.ones(size, bool)
    frame[inner] = False
    return frame
