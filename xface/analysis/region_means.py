"""Region measures of many unlabelled images: one table of all, and their means with what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from xface.analysis.effect_means import effect_means, effect_rows, mean_effects
from xface.evaluation.folder import DPI, TABLE_FORMATS
from xface.faces import REGIONS
from xface.faces.measures import MEASURES
from xface.files.paths import as_utf8
from xface.files.writing import appearing
from xface.report import draw_lift_bars, draw_mean_effects
from xface.report.explanation.table import Key
from xface.results import ExplanationData, RegionMeasure
from xface.wording import map_name, origin

MAP, KEYS = ["method", "layer"], ["method", "layer", "region"]
NUMBERS = ["area", *MEASURES]
COLUMNS = ["image", "label", "status", *(field.name for field in fields(RegionMeasure))]


def region_rows(findings: ExplanationData) -> pd.DataFrame:
    """One image's measures, a row per map and region, also where they are undefined.

    Columns: `image`, `label` (the class explained), `status` (of the map: `ok`, `zero`, `non_finite`;
    `no_face` where no face was found), then those of `xface.results.RegionMeasure`; `layer` is "" for none.
    """
    status = {(amap.method, amap.layer): amap.status for amap in findings.maps}
    named = {"image": as_utf8(findings.image), "label": findings.label}
    rows = [{**named, "status": status[row.method, row.layer], **asdict(row)} for row in findings.regions]
    if not findings.face.found:
        places = [(method, layer, region) for method, layer in status for region in REGIONS]
        rows = [{**named, "status": "no_face", **dict(zip(KEYS, place, strict=True))} for place in places]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["layer"] = frame["layer"].fillna("").astype(str)
    frame["coarse"] = frame["coarse"].astype("boolean")  # unknown without a face
    return frame.astype(dict.fromkeys(NUMBERS, float))


def region_means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of each measure over images, a row per method, layer and region.

    Args:
        rows: from `region_rows`, of all images.

    Returns:
        The keys; `images` in the table, of which `no_face` had no face and `undefined` a map that is zero or
        not finite; `n`, over how many the lift is averaged; `coarse`, in how many the region is; the means,
        each over the images that define it, NaN if none does.

    Example:
        >>> row = {"image": "a", "label": "fake", "method": "vanilla", "layer": "", "region": "nose"}
        >>> rows = [{**row, "status": "ok", "lift": lift} for lift in (1.0, 3.0)]
        >>> rows.append({**row, "status": "zero"})
        >>> found = region_means(pd.DataFrame(rows, columns=COLUMNS)).iloc[0]
        >>> float(found["lift"]), int(found["n"]), int(found["images"]), int(found["undefined"])
        (2.0, 2, 3, 1)
    """
    marked = rows.assign(
        no_face=rows["status"] == "no_face",
        undefined=~rows["status"].isin(["ok", "no_face"]),
        coarse=rows["coarse"].astype("boolean").fillna(False).astype(bool),
    )
    grouped = marked.groupby(KEYS, sort=False)
    counts = grouped.agg(
        images=("image", "size"),
        no_face=("no_face", "sum"),
        undefined=("undefined", "sum"),
        n=("lift", "count"),
        coarse=("coarse", "sum"),
    )
    return counts.join(grouped[NUMBERS].mean()).reset_index()


class RegionTable:
    """The measures of image after image, for one detector and the same maps of each.

    `labels` counts the images with a face by the class that their maps explain.
    """

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self._parts: list[pd.DataFrame] = []
        self._effects: list[pd.DataFrame] = []
        self._latest: ExplanationData | None = None

    def add(self, findings: ExplanationData) -> None:
        """Take up one image's measures."""
        self._parts.append(region_rows(findings))
        self._effects.append(effect_rows(findings))
        self._latest = findings
        self.labels.update([findings.label] if findings.face.found else [])

    @property
    def rows(self) -> pd.DataFrame:
        """All images' measures; see `region_rows`."""
        return pd.concat(self._parts or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)

    @property
    def effects(self) -> pd.DataFrame | None:
        """All images' effects, see `effect_rows`; None where no image has any."""
        rows = pd.concat(self._effects, ignore_index=True) if self._effects else None
        return rows if rows is not None and rows["effect"].notna().any() else None

    def save(self, folder: Path, table_format: str = "csv") -> None:
        """Write all rows and their means as tables, and the means as charts; OutputError if that fails.

        Files are `regions` and `regions-mean`, with effects also `effects` and `effects-mean`; each is whole.
        """
        rows, hidden = self.rows, self.effects
        tables = {"regions": rows, "regions-mean": region_means(rows)}
        figures = {"regions-mean": self.draw()}
        if hidden is not None:
            tables |= {"effects": hidden, "effects-mean": effect_means(hidden)}
            figures["effects-mean"] = self.draw_effects()
        with appearing(folder) as aside:
            for name, table in tables.items():
                TABLE_FORMATS[table_format](table, aside / f"{name}.{table_format}")
            for name, figure in figures.items():
                if figure:
                    figure.savefig(aside / f"{name}.png", dpi=DPI)

    def draw(self) -> Figure | None:
        """The mean lifts as bars; None where no image had a face."""
        means = region_means(self.rows)
        measures = mean_measures(means)
        if self._latest is None or not measures:
            return None
        names = {(amap.method, amap.layer): map_name(amap) for amap in self._latest.maps}
        title = [f"mean over {means['images'].iloc[0]:,} images", origin(self._latest)]
        return draw_lift_bars(measures, names, left_out(means), title, self._latest.trained)

    def draw_effects(self) -> Figure | None:
        """The mean effects as bars; None where no image has any."""
        rows = self.effects
        if self._latest is None or rows is None:
            return None
        title = [f"mean effects over {rows['image'].nunique():,} images", origin(self._latest)]
        return draw_mean_effects(mean_effects(effect_means(rows)), title, self._latest.trained)


def mean_measures(means: pd.DataFrame) -> list[RegionMeasure]:
    """The means of `region_means` as measures, to print and draw; coarse where one image's region was.

    None are those of images that all have no face.
    """
    return [_measure(row) for row in means[means["area"].notna()].to_dict("records")]


def _measure(row: Mapping[Any, Any]) -> RegionMeasure:
    numbers: dict[str, Any] = {name: None if pd.isna(row[name]) else float(row[name]) for name in NUMBERS}
    layer = row["layer"] or None
    return RegionMeasure(row["method"], layer, row["region"], coarse=row["coarse"] > 0, **numbers)


def left_out(means: pd.DataFrame) -> dict[Key, str]:
    """Of each map, over how many images its means are, and how many were left out and why."""
    first = means.drop_duplicates(MAP)
    return {(row["method"], row["layer"] or None): _counts(row) for row in first.to_dict("records")}


def _counts(row: Mapping[Any, Any]) -> str:
    reasons = [(row["no_face"], "without a face"), (row["undefined"], "with an undefined map")]
    words = ", ".join(f"{count:,} {reason}" for count, reason in reasons if count)
    number = row["images"] - row["no_face"] - row["undefined"]
    return f"n = {number:,}" + (f"; left out: {words}" if words else "")
