"""Analysis: a detector explained on many labelled images, into the tables of a run.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.analysis.labelled_data import read_data as read_data
    from xface.analysis.pipeline import analyze as analyze
    from xface.analysis.plan import plan_analysis as plan_analysis

_HOMES = {
    "analyze": "xface.analysis.pipeline",
    "plan_analysis": "xface.analysis.plan",
    "read_data": "xface.analysis.labelled_data",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
