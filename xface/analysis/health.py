"""What is missing from the tables, and whether it is missing evenly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.analysis.bootstrap import LEAST_GROUPS, SEED
from xface.analysis.contrasts import ALPHA, OUTCOMES, false_discovery
from xface.analysis.means import Mask
from xface.report.words import counted

if TYPE_CHECKING:
    import pandas as pd

LEAST_EXPECTED = 5  # below, chi-squared is not the table's distribution (Cochran 1954)
MOSTLY = 0.5
KIND = ["method", "layer"]
UNDEFINED = {"zero": "zero map", "non_finite": "map not finite"}


@dataclass(frozen=True)
class Missing:
    """How many images have one thing amiss, of how many: by outcome and by label.

    `p` tells whether outcomes (for images without a score, labels) have it equally often, taking images for
    independent; `uneven` after Benjamini and Hochberg over all that is amiss.
    """

    what: str
    method: str
    layer: str
    by_outcome: Mapping[str, tuple[int, int]]
    by_label: Mapping[str, tuple[int, int]]
    p: float | None
    uneven: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        counts = {
            key: {k: list(v) for k, v in getattr(self, key).items()} for key in ("by_outcome", "by_label")
        }
        return {**asdict(self), **counts}


@dataclass(frozen=True)
class Health:
    """What is amiss (`statuses`), the part of a region's maps that are too coarse for it, and warnings."""

    statuses: tuple[Missing, ...]
    coarse: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "statuses": [each.to_json() for each in self.statuses],
            "coarse": [dict(each) for each in self.coarse],
            "warnings": list(self.warnings),
        }


def check_health(images: pd.DataFrame, regions: pd.DataFrame) -> Health:
    """Count images without a face, unreadable ones and undefined maps; test whether they are spread evenly.

    By chi-squared, or where less than 5 are expected in a cell by Fisher's exact test (scipy's). Both take
    images for independent: frames of one video make p too small, which here only warns too often.
    """
    found = [*_image_statuses(images), *_map_statuses(images, regions)]
    qs = iter(false_discovery([each.p for each in found if each.p is not None]))
    found = [each if each.p is None else replace(each, uneven=next(qs) <= ALPHA) for each in found]
    coarse = _coarse(regions)
    return Health(tuple(found), coarse, (*_warnings(found, images), *_coarse_warnings(coarse)))


def _image_statuses(images: pd.DataFrame) -> Iterator[Missing]:
    for status in sorted(set(images["status"]) - {"ok"}):
        yield _missing(status, "", "", images, (images["status"] == status).to_numpy())


def _map_statuses(images: pd.DataFrame, regions: pd.DataFrame) -> Iterator[Missing]:
    maps = regions[["row", *KIND, "status"]].drop_duplicates(["row", *KIND])
    for (method, layer), of in maps[maps["status"] != "no_face"].groupby(KIND, sort=False, observed=True):
        mapped = images[images["row"].isin(of["row"])]
        for status, what in UNDEFINED.items():
            amiss = mapped["row"].isin(of["row"][of["status"] == status]).to_numpy()
            if amiss.any():
                yield _missing(what, str(method), str(layer), mapped, amiss)


def _missing(what: str, method: str, layer: str, images: pd.DataFrame, amiss: Mask) -> Missing:
    outcomes, labels = _counts(images["outcome"], amiss, tuple(OUTCOMES)), _counts(images["label"], amiss)
    scored = any(count for count, _ in outcomes.values())
    table = outcomes if scored else labels
    return Missing(what, method, layer, outcomes if scored else {}, labels, unevenness(list(table.values())))


def _counts(names: pd.Series[Any], amiss: Mask, order: Sequence[str] = ()) -> dict[str, tuple[int, int]]:
    of, bad = names.value_counts(), names[amiss].value_counts()
    there = [str(name) for name in order or sorted(of.index) if name in of.index]
    return {name: (int(bad.get(name, 0)), int(of[name])) for name in there}


def unevenness(counts: Sequence[tuple[int, int]]) -> float | None:
    """p that rows of (so many amiss, of so many) have one rate; None where there is nothing to compare.

    Example:
        >>> round(unevenness([(3, 4), (1, 4)]), 2), unevenness([(0, 4), (0, 9)])
        (0.49, None)
    """
    from scipy.stats import MonteCarloMethod, chi2_contingency, fisher_exact
    from scipy.stats.contingency import expected_freq

    table = np.array([(bad, of - bad) for bad, of in counts if of]).reshape(-1, 2)
    if len(table) < 2 or (table.sum(axis=0) == 0).any():
        return None
    if expected_freq(table).min() >= LEAST_EXPECTED:
        return float(chi2_contingency(table, correction=False).pvalue)
    if len(table) == 2:
        return float(fisher_exact(table).pvalue)
    found = fisher_exact(table, method=MonteCarloMethod(rng=np.random.default_rng(SEED)))
    return float(np.asarray(found.pvalue).item())  # of few images scipy gives an array of one number


def _coarse(regions: pd.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """The part of each region's defined maps whose cells are too large for it, where there are any."""
    keys = [*KIND, "region"]
    defined = regions[regions["status"] == "ok"].assign(part=regions["coarse"].astype(float))
    parts = defined.groupby(keys, sort=False, observed=True)["part"].mean().reset_index()
    return tuple({str(k): v for k, v in each.items()} for each in parts[parts["part"] > 0].to_dict("records"))


def _warnings(found: Sequence[Missing], images: pd.DataFrame) -> Iterator[str]:
    for each in found:
        if each.uneven:
            table, names = (each.by_outcome, OUTCOMES) if each.by_outcome else (each.by_label, {})
            rates = ", ".join(f"{c} of {of} {names.get(name, name)}" for name, (c, of) in table.items())
            where = " ".join(part for part in (each.method, each.layer) if part)
            yield (
                f"{each.what.replace('_', ' ')}{f' ({where})' if where else ''} is unevenly spread: {rates} "
                f"(p {each.p:.2g}, taking images for independent); what follows speaks of the others only"
            )
    scored = images[images["outcome"] != ""]
    for outcome, name in OUTCOMES.items():
        rows = scored[scored["outcome"] == outcome]
        grouped = rows["group"][rows["group"] != ""]
        groups = int(grouped.nunique()) + len(rows) - len(grouped)
        if groups < LEAST_GROUPS:
            yield f"{name}: only {counted(groups, 'group')}, too few to be compared"


def _coarse_warnings(coarse: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    mostly = [each for each in coarse if each["part"] > MOSTLY]
    for method, layer in dict.fromkeys((each["method"], each["layer"]) for each in mostly):
        regions = [each["region"] for each in mostly if (each["method"], each["layer"]) == (method, layer)]
        kind = " ".join(filter(None, (method, layer)))
        named = ", ".join(regions).replace("_", " ")
        yield f"{kind} is too coarse for {named}: fewer than 4 of its cells fit in"
