"""Evaluation: what a detector's scores on labelled images are worth.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.evaluation.evaluation import Evaluation as Evaluation
    from xface.evaluation.evaluation import evaluate as evaluate
    from xface.evaluation.figure import draw_evaluation as draw_evaluation
    from xface.evaluation.scoring import score as score
    from xface.evaluation.thresholds import Threshold as Threshold
    from xface.statistics.thresholds import CRITERIA as CRITERIA

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "CRITERIA": "xface.statistics.thresholds",
        "Evaluation": "xface.evaluation.evaluation",
        "Threshold": "xface.evaluation.thresholds",
        "draw_evaluation": "xface.evaluation.figure",
        "evaluate": "xface.evaluation.evaluation",
        "score": "xface.evaluation.scoring",
    },
)
