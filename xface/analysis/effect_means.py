"""Region effects of many unlabelled images: one table of all, and their means, with flips counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from xface.evidence.hiding import NEUTRAL
from xface.explanation import EFFECT_COLUMNS
from xface.faces import REGIONS
from xface.files.paths import as_utf8
from xface.report.explanation.effect_table import signed
from xface.results import ExplanationData, RegionEffect
from xface.statistics.bootstrap import LEAST_GROUPS
from xface.statistics.means import mean_differences
from xface.wording import NOTHING, aligned, number

MEANS = [name for name in EFFECT_COLUMNS if name not in ("region", "status", "flips")]
INTERVAL = ["effect_low", "effect_high"]
STATUSES = ("clear", "unclear", "within_noise", "undefined")
COUNTED = {"flips": "flips", "within_noise": "within noise", "unclear": "unclear"}


def effect_rows(findings: ExplanationData) -> pd.DataFrame:
    """One image's effects, a row per region: `image`, `label` (the class explained), then those of an effect.

    `status` is `no_face` where no face was found, `undefined` also where nothing could be hidden.
    """
    rows = [row.to_row() for row in findings.effects]
    if not rows:
        status = "undefined" if findings.face.found else "no_face"
        rows = [{"region": region, "status": status, "flips": False} for region in REGIONS]
    frame = pd.DataFrame(rows, columns=EFFECT_COLUMNS)
    frame.insert(0, "image", as_utf8(findings.image))
    frame.insert(1, "label", findings.label)
    return frame.astype(dict.fromkeys(MEANS, float))


def effect_means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of each effect over images, a row per region.

    Args:
        rows: from `effect_rows`, of all images.

    Returns:
        `region`; `images` in the table, of which `no_face` had no face; `n`, over how many the effect is
        averaged; in how many the region `flips` the verdict, and its effect is `clear`, `unclear`,
        `within_noise`, `undefined`; the means, NaN where nothing is defined; `effect_low` and `effect_high`,
        the 95 % interval of the mean effect, each image a group of its own (one that is given twice is one
        group), NaN for fewer than 10.

    Example:
        >>> row = {"image": "a", "label": "fake", "region": "nose", "status": "clear", "flips": True}
        >>> rows = pd.DataFrame([{**row, "effect": effect} for effect in (1.0, 3.0)])
        >>> found = effect_means(rows.reindex(columns=["image", "label", *EFFECT_COLUMNS])).iloc[0]
        >>> float(found["effect"]), int(found["n"]), int(found["flips"]), float(found["effect_low"])
        (2.0, 2, 2, nan)
    """
    marked = rows.assign(**{status: rows["status"] == status for status in ("no_face", *STATUSES)})
    grouped = marked.groupby("region", sort=False)
    counts = grouped.agg(
        images=("image", "size"),
        n=("effect", "count"),
        **{name: (name, "sum") for name in ("no_face", "flips", *STATUSES)},
    )
    intervals = grouped[["image", "effect"]].apply(_interval)
    return counts.join(grouped[MEANS].mean()).join(intervals).reset_index()


def _interval(rows: pd.DataFrame) -> pd.Series[float]:
    """The ends of the 95 % interval of one region's mean effect over images."""
    codes, _ = pd.factorize(rows["image"])
    values = rows[["effect"]].to_numpy(np.float64)
    [found] = mean_differences(values, np.ones(len(rows), bool), None, codes)
    return pd.Series([found.low, found.high], INTERVAL, float)


def mean_effects(means: pd.DataFrame) -> list[RegionEffect]:
    """The means of `effect_means` as effects, to draw; none flips.

    The status is that of most images, but `within_noise` for a mean that the control's reaches: effects that
    are clear one by one may point both ways.
    """
    return [_effect(row) for row in means[means["n"] > 0].to_dict("records")]


def _effect(row: Mapping[Any, Any]) -> RegionEffect:
    known: dict[str, Any] = {name: _known(float(row[name])) for name in MEANS}
    fills = {fill: known.pop(f"effect_{fill}") for fill in NEUTRAL}
    status: Any = max(STATUSES, key=lambda name: row[name])
    if status == "clear" and abs(known["effect"] or 0.0) <= abs(known["control"] or 0.0):
        status = "within_noise"
    return RegionEffect(region=row["region"], status=status, flips=False, fills=fills, **known)


def _known(value: float) -> float | None:
    return None if pd.isna(value) else value


def mean_effect_table(means: pd.DataFrame) -> str:
    """The mean effects for a terminal, the largest first, with counts of images.

    The intervals of `effect_means` are symmetric about the mean.
    """
    ordered = means.sort_values("effect", ascending=False, na_position="last")
    heading = ["region", "effect", "95 %", "control", "points", "n", *COUNTED.values()]
    rows = [
        [
            row["region"],
            signed(_known(row["effect"])),
            NOTHING if pd.isna(row["effect_low"]) else f"±{signed(row['effect_high'] - row['effect'])[1:]}",
            signed(_known(row["control"])),
            NOTHING if pd.isna(row["effect_probability"]) else f"{100 * row['effect_probability']:+.1f}",
            *(number(int(row[name])) for name in ("n", *COUNTED)),
        ]
        for row in ordered.to_dict("records")
    ]
    note = f"95 %: interval over images, from {LEAST_GROUPS} on; too narrow for frames of one video"
    return f"{aligned([heading, *rows])}\n\n{note}"
