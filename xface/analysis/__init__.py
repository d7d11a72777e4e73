"""Analysis: what a detector's scores on labelled images are worth, where it fails, and where it looks then.

`bootstrap`, `metrics`, `thresholds`, `evaluation` and `figures` are about arrays and tables: they need no
torch. `scoring` asks the detector; `plan` and `pipeline` explain it on many images, into a run's tables. The
public names below are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.analysis.analysed_data import read_data as read_data
    from xface.analysis.bootstrap import Estimate as Estimate
    from xface.analysis.evaluation import Evaluation as Evaluation
    from xface.analysis.evaluation import evaluate as evaluate
    from xface.analysis.figures import draw_evaluation as draw_evaluation
    from xface.analysis.metrics import METRICS as METRICS
    from xface.analysis.metrics import measure as measure
    from xface.analysis.pipeline import analyze as analyze
    from xface.analysis.plan import plan_analysis as plan_analysis
    from xface.analysis.scoring import score as score
    from xface.analysis.thresholds import CRITERIA as CRITERIA
    from xface.analysis.thresholds import Threshold as Threshold

_HOMES = {
    "CRITERIA": "thresholds",
    "Estimate": "bootstrap",
    "Evaluation": "evaluation",
    "METRICS": "metrics",
    "Threshold": "thresholds",
    "analyze": "pipeline",
    "draw_evaluation": "figures",
    "evaluate": "evaluation",
    "measure": "metrics",
    "plan_analysis": "plan",
    "read_data": "analysed_data",
    "score": "scoring",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface.analysis' has no attribute {name!r}")
    return getattr(import_module(f"xface.analysis.{_HOMES[name]}"), name)
