"""Axes of drawings: where a value lies between two ends, and which numbers stand beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

LOWEST, HIGHEST = 1 / 16, 64
MOST_TICKS = 7
LEAST = 1e-9  # of a linear axis: less is rounding


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; a line is drawn at `reference`, which all else is compared with.

    With `percent` its numbers are per cent of the values.

    Example:
        >>> Axis(1.0, 4.0, (1.0, 2.0, 4.0), 1.0, "log").place(2.0), Axis(0.0, 4.0, (0.0, 4.0), 0.0).place(9.0)
        (0.5, 1.0)
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    reference: float | None
    scale: Literal["linear", "log"] = "linear"
    percent: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; at the end that it lies beyond."""
        inside = min(max(value, self.low), self.high)
        if self.scale == "log":
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def words(self, tick: float) -> str:
        """A tick's number.

        Example:
            >>> Axis(0.25, 4.0, (), 1.0, "log").words(0.25), Axis(0.0, 1.0, (), 0.0, percent=True).words(0.5)
            ('1/4', '50')
        """
        if self.percent:
            return f"{100 * tick:.4g}"
        return f"1/{1 / tick:g}" if self.scale == "log" and tick < 1 else f"{tick:.4g}"


def ratio_axis(values: Iterable[float]) -> Axis:
    """A logarithmic axis around 1: its ends are powers of two around all values, within 1/16 and 64.

    Example:
        >>> ratio_axis([0.9, 5.0]).ticks
        (0.5, 1.0, 2.0, 4.0, 8.0)
    """
    known = list(values)
    low = math.floor(math.log2(min([0.5, *(max(value, LOWEST) for value in known)])))
    high = math.ceil(math.log2(max([2.0, *(min(value, HIGHEST) for value in known)])))
    step = -(-(high - low + 1) // MOST_TICKS)
    ticks = tuple(2.0**power for power in range(low, high + 1) if power % step == 0)
    return Axis(2.0**low, 2.0**high, ticks, 1.0, "log")


def linear_axis(values: Iterable[float], percent: bool = False) -> Axis:
    """A linear axis around 0 and all values, its ends and ticks at round numbers.

    Example:
        >>> linear_axis([-0.11, 0.52]).ticks, linear_axis([1e-17]).ticks
        ((-0.2, 0.0, 0.2, 0.4, 0.6), (0.0, 0.2))
    """
    known = list(values) or [1.0]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    step = _round_step(high - low if high - low > LEAST else 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(step * number, 12) for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, 0.0, percent=percent)


def _round_step(extent: float) -> float:
    """The smallest of 1, 2, 5, 10, ... that divides an extent into few enough steps."""
    raw = extent / (MOST_TICKS - 2)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= raw * (1 - 1e-9))
