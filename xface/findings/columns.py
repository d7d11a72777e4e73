"""The numbers that are compared, as named columns over the scored images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.results import POSITIVES, WRONG, FloatArray
from xface.statistics.bootstrap import group_codes
from xface.statistics.means import Codes, Mask

if TYPE_CHECKING:
    import pandas as pd

BACKGROUND = "background"
EXAMPLES = 12
NAME = ["method", "layer", "region"]


@dataclass(frozen=True)
class Columns:
    """K columns `values` (N, K), NaN undefined, with a name each: method, layer and region, or attribute."""

    names: tuple[Mapping[str, str], ...]
    values: FloatArray

    @property
    def short(self) -> list[str]:
        """The last part of each name: the region or attribute."""
        return [list(name.values())[-1] for name in self.names]

    def where(self, **fixed: str) -> Columns:
        """The columns whose names have these parts."""
        chosen = [k for k, name in enumerate(self.names) if fixed.items() <= name.items()]
        return Columns(tuple(self.names[k] for k in chosen), self.values[:, chosen])

    def beside(self, other: Columns) -> Columns:
        """These columns, then another's."""
        return Columns((*self.names, *other.names), np.column_stack([self.values, other.values]))


def region_columns(
    images: pd.DataFrame, regions: pd.DataFrame, measure: str, kinds: Sequence[Mapping[str, Any]]
) -> Columns:
    """`share` or `lift` of each kind's regions over `images`, in the order of `kinds`, then of the table."""
    import pandas as pd

    defined = regions.loc[regions["status"] == "ok", ["row", *NAME, measure]]
    known = list(defined[NAME].drop_duplicates().itertuples(index=False, name=None))
    numbers = defined.groupby(NAME, sort=False, observed=True).ngroup().to_numpy(np.intp)
    at = pd.Index(images["row"]).get_indexer(defined["row"])
    values = np.full((len(images), len(known)), np.nan)
    values[at[at >= 0], numbers[at >= 0]] = defined[measure].to_numpy(np.float64)[at >= 0]
    places = {(kind["method"], kind["layer"]): place for place, kind in enumerate(kinds)}
    order = sorted(range(len(known)), key=lambda k: places.get(known[k][:2], len(places)))
    names = (dict(zip(NAME, map(str, known[k]), strict=True)) for k in order)
    return Columns(tuple(names), values[:, order])


def on_the_face(shares: Columns) -> Columns:
    """The part of each kind's map that lies on the face: 1 - the background's share."""
    outside = shares.where(region=BACKGROUND)
    return Columns(tuple({**name, "region": "face"} for name in outside.names), 1 - outside.values)


def attribute_columns(images: pd.DataFrame, names: Sequence[str]) -> Columns:
    """The attributes that the table has; what is not finite is undefined."""
    there = [name for name in names if name in images]
    values = images[there].to_numpy(np.float64, copy=True).reshape(len(images), len(there))
    values[~np.isfinite(values)] = np.nan
    return Columns(tuple({"attribute": name} for name in there), values)


@dataclass(frozen=True)
class Judged:
    """The images with a score: rows, outcomes, groups, scores and how sure the verdicts are, each (N,)."""

    rows: Codes
    outcomes: Any
    codes: Codes
    scores: FloatArray
    sureness: FloatArray

    @staticmethod
    def of(images: pd.DataFrame, threshold: float) -> Judged:
        """Read them from the table of scored images."""
        codes = group_codes(images["group"].fillna("").astype(str).to_numpy(), len(images))
        score = images["score"].to_numpy(np.float64)
        outcomes = images["outcome"].astype(str).to_numpy(dtype="U2")
        return Judged(images["row"].to_numpy(np.intp), outcomes, codes, score, np.abs(score - threshold))

    @property
    def wrong(self) -> Mask:
        """Which were misclassified."""
        return np.isin(self.outcomes, WRONG)

    @property
    def positive(self) -> Mask:
        """Which are of the positive class."""
        return np.isin(self.outcomes, POSITIVES)

    def examples(self, among: Mask, order: FloatArray) -> tuple[int, ...]:
        """Up to 12 rows `among` them with the highest `order`, of different groups."""
        ranked = np.flatnonzero(among & np.isfinite(order))
        ranked = ranked[np.argsort(-order[ranked], kind="stable")]
        _, first = np.unique(self.codes[ranked], return_index=True)
        return tuple(self.rows[ranked[np.sort(first)[:EXAMPLES]]].tolist())
