"""Analysis: a detector explained on many labelled images, into the tables of a run.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.analysis.labelled_data import read_data as read_data
    from xface.analysis.pipeline import analyze as analyze
    from xface.analysis.plan import plan_analysis as plan_analysis

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "analyze": "xface.analysis.pipeline",
        "plan_analysis": "xface.analysis.plan",
        "read_data": "xface.analysis.labelled_data",
    },
)
