"""A stopwatch: seconds spent, by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Adds up the seconds of what runs under it.

    Example:
        >>> watch = Stopwatch()
        >>> with watch("decode"):
        ...     pass
        >>> watch.add({"decode": 2.0, "writing": 1.0})
        >>> {stage: round(seconds) for stage, seconds in watch.take().items()}, watch.take()
        ({'decode': 2, 'writing': 1}, {})
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds that were measured elsewhere."""
        for stage, more in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + more

    def take(self) -> dict[str, float]:
        """What has been added up, and begin at zero again."""
        taken, self.seconds = self.seconds, {}
        return taken
