"""Statistics over arrays: intervals, tests, effects, metrics, regressions, slices and clusters.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.statistics.bootstrap import Estimate as Estimate
    from xface.statistics.metrics import METRICS as METRICS
    from xface.statistics.metrics import measure as measure

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Estimate": "xface.statistics.bootstrap",
        "METRICS": "xface.statistics.metrics",
        "measure": "xface.statistics.metrics",
    },
)
