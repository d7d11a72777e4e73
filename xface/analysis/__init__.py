"""Analysis: what a detector's scores on labelled images are worth, with intervals over groups.

`bootstrap`, `metrics`, `thresholds`, `evaluation` and `figures` are about arrays and tables: they need no
torch. `scoring` asks the detector. The public names below are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.analysis.bootstrap import Estimate as Estimate
    from xface.analysis.evaluation import Evaluation as Evaluation
    from xface.analysis.evaluation import evaluate as evaluate
    from xface.analysis.figures import draw_evaluation as draw_evaluation
    from xface.analysis.metrics import METRICS as METRICS
    from xface.analysis.metrics import measure as measure
    from xface.analysis.scoring import score as score
    from xface.analysis.thresholds import CRITERIA as CRITERIA
    from xface.analysis.thresholds import Threshold as Threshold

_HOMES = {
    "CRITERIA": "thresholds",
    "Estimate": "bootstrap",
    "Evaluation": "evaluation",
    "METRICS": "metrics",
    "Threshold": "thresholds",
    "draw_evaluation": "figures",
    "evaluate": "evaluation",
    "measure": "metrics",
    "score": "scoring",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface.analysis' has no attribute {name!r}")
    return getattr(import_module(f"xface.analysis.{_HOMES[name]}"), name)
