"""Batches that fit: what does not fit into a device's memory at once is done in smaller parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from xface.errors import XFaceError

Result = TypeVar("Result")


class FittingBatches:
    """Does a job for batches, and halves one that does not fit; the smaller size is kept from then on.

    Args:
        device: whose memory it is.
        remedy: what to do where not even one image fits.

    Example:
        >>> in_parts = FittingBatches(torch.device("cpu"), "use another device")
        >>> in_parts(lambda part: list(range(10))[part], 10)
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(self, device: torch.device, remedy: str) -> None:
        self.device, self.remedy = device, remedy
        self.most: int | None = None

    def __call__(self, job: Callable[[slice], Iterable[Result]], count: int) -> list[Result]:
        """The results of `job`, one for each of `count` images, given those of each part.

        Raises:
            XFaceError: not even one image fits.
        """
        found: list[Result] = []
        while len(found) < count:
            part = slice(len(found), min(count, len(found) + (self.most or count)))
            try:
                found.extend(job(part))
                continue
            except torch.OutOfMemoryError as error:
                reason = str(error)
            # only now, without the error's frames, is the batch's memory free
            self.most = self._halved(part.stop - part.start, reason)
        return found

    def _halved(self, size: int, reason: str) -> int:
        if size == 1:
            raise XFaceError(
                f"one image alone does not fit into the memory of {self.device} "
                f"({reason.partition('. ')[0]}); {self.remedy}"
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return (size + 1) // 2
