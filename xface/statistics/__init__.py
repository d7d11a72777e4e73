"""Statistics over arrays: intervals, tests, effects, metrics, regressions, slices and clusters.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.statistics.bootstrap import Estimate as Estimate
    from xface.statistics.metrics import METRICS as METRICS
    from xface.statistics.metrics import measure as measure

_HOMES = {
    "Estimate": "xface.statistics.bootstrap",
    "METRICS": "xface.statistics.metrics",
    "measure": "xface.statistics.metrics",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
