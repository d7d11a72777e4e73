"""The head of a run's findings: how many images, how well judged, what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.analysis.bootstrap import Estimate
from xface.analysis.columns import Judged
from xface.analysis.contrasts import OUTCOMES
from xface.analysis.means import proportion
from xface.analysis.metrics import METRICS, measure

if TYPE_CHECKING:
    import pandas as pd

NAMES = {"ap": "average_precision"}


def summarise(
    images: pd.DataFrame, scored: pd.DataFrame, judged: Judged, threshold: Mapping[str, Any]
) -> dict[str, Any]:
    """Counts, scores with intervals over groups, and the images without a map by status and reason."""
    return {
        "images": len(images),
        "scored": len(scored),
        "groups": len(np.unique(judged.codes)),
        "prevalence": proportion(judged.positive, np.ones(len(scored), bool), judged.codes),
        "counts": {outcome: int((judged.outcomes == outcome).sum()) for outcome in OUTCOMES},
        "scores": _scores(scored, judged, float(threshold["value"])),
        "threshold": {"value": threshold["value"], "origin": threshold["origin"]},
        "excluded": _excluded(images),
    }


def _scores(scored: pd.DataFrame, judged: Judged, threshold: float) -> dict[str, Estimate]:
    metrics = [name for name, metric in METRICS.items() if not metric.count]
    if scored.empty:
        return {NAMES.get(name, name): Estimate(None) for name in metrics}
    groups = scored["group"].fillna("").astype(str).to_numpy()
    found = measure(judged.positive, scored["score"].to_numpy(float), threshold, groups, metrics)
    return {NAMES.get(name, name): estimate for name, estimate in found.items()}


def _excluded(images: pd.DataFrame) -> list[dict[str, Any]]:
    left = images[images["status"] != "ok"]
    why = [without_path(*each) for each in zip(left["reason"], left["image"], strict=True)]
    found = [
        {
            "status": status,
            "reason": reason,
            "count": len(rows),
            "by_label": {str(label): int(count) for label, count in rows["label"].value_counts().items()},
            "example": str(rows["image"].iloc[0]),
        }
        for (status, reason), rows in left.assign(reason=why).groupby(["status", "reason"], sort=True)
    ]
    return sorted(found, key=lambda each: -each["count"])


def without_path(reason: str, path: str) -> str:
    """A reason as it would be for any other image.

    Example:
        >>> without_path("cannot read 'a/1.jpg': there is no such file", "a/1.jpg")
        'cannot read: there is no such file'
    """
    return reason.replace(f" {path!r}", "").replace(path, "it")
