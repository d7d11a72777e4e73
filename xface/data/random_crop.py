"""Random crops: the network is trained on squares cut from larger views, and asked about whole ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.random import Generator

from xface.errors import UsageError
from xface.results import ByteArray, FloatArray

Pixels = TypeVar("Pixels", ByteArray, FloatArray)


@dataclass(frozen=True)
class RandomCrop:
    """Squares of `side` pixels at random places of a view, enlarged by a factor within `scale`.

    The factor is uniform in its logarithm. A network that pools over its whole grid can judge larger views
    than it was trained on: a quarter of the pixels costs a quarter of the time, and every place of a face is
    seen in every corner of the input.

    Example:
        >>> crop = RandomCrop(side=2)
        >>> view = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
        >>> crop(view, np.random.default_rng(0))[0].shape
        (2, 2, 3)
    """

    side: int
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise UsageError(f"scale {self.scale} must be the least and the greatest, within 0.1 to 10")

    def __call__(
        self, pixels: ByteArray, chance: Generator, mask: FloatArray | None = None
    ) -> tuple[ByteArray, FloatArray | None]:
        """Cut from pixels, uint8 RGB (H, W, 3), and from a mask (H, W) at the same place."""
        factor = float(np.exp(chance.uniform(*np.log(self.scale))))
        edge = min(round(self.side / factor), *pixels.shape[:2])
        top, left = (chance.random(2) * (np.array(pixels.shape[:2]) - edge + 1)).astype(int)
        place = slice(top, top + edge), slice(left, left + edge)
        return self._sized(pixels[place]), None if mask is None else self._sized(mask[place])

    def _sized(self, window: Pixels) -> Pixels:
        if window.shape[0] == self.side:
            return np.ascontiguousarray(window)
        resized = cv2.resize(np.ascontiguousarray(window), (self.side, self.side))
        return np.asarray(resized, window.dtype)
