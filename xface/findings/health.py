"""What is missing from the tables, and whether it is missing evenly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.findings.columns import Judged
from xface.results import OUTCOMES
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate
from xface.statistics.effects import ALPHA, false_discovery, unevenness
from xface.statistics.means import Mask, proportion
from xface.statistics.metrics import METRICS, measure
from xface.wording import counted, spaced

if TYPE_CHECKING:
    import pandas as pd

MOSTLY = 0.5
KIND = ["method", "layer"]
REGION = [*KIND, "region"]
UNDEFINED = {"zero": "zero map", "non_finite": "map not finite"}


@dataclass(frozen=True)
class Missing:
    """How many images have one thing amiss, of how many: by outcome and by label.

    `p` tells whether outcomes (for images without a score, labels) have it equally often, treating images as
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

    @property
    def coarse_regions(self) -> list[Mapping[str, str]]:
        """Method, layer and region of which most maps are too coarse."""
        return [{key: str(each[key]) for key in REGION} for each in self.coarse if each["part"] > MOSTLY]

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


def _coarse(regions: pd.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """The part of each region's defined maps whose cells are too large for it, where there are any."""
    defined = regions[regions["status"] == "ok"].assign(part=regions["coarse"].astype(float))
    parts = defined.groupby(REGION, sort=False, observed=True)["part"].mean().reset_index()
    return tuple({str(k): v for k, v in each.items()} for each in parts[parts["part"] > 0].to_dict("records"))


def _warnings(found: Sequence[Missing], images: pd.DataFrame) -> Iterator[str]:
    for each in found:
        if each.uneven:
            table, names = (each.by_outcome, OUTCOMES) if each.by_outcome else (each.by_label, {})
            rates = ", ".join(f"{c} of {of} {names.get(name, name)}" for name, (c, of) in table.items())
            where = " ".join(part for part in (each.method, each.layer) if part)
            yield (
                f"{spaced(each.what)}{f' ({where})' if where else ''} is not evenly distributed: "
                f"{rates} (p {each.p:.2g}, treating images as independent); the results below are about the "
                "other images only"
            )
    scored = images[images["outcome"] != ""]
    for outcome, name in OUTCOMES.items():
        rows = scored[scored["outcome"] == outcome]
        grouped = rows["group"][rows["group"] != ""]
        groups = int(grouped.nunique()) + len(rows) - len(grouped)
        if groups < LEAST_GROUPS:
            yield f"{name}: only {counted(groups, 'group')}, too few to compare"


def _coarse_warnings(coarse: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    mostly = [each for each in coarse if each["part"] > MOSTLY]
    for method, layer in dict.fromkeys((each["method"], each["layer"]) for each in mostly):
        regions = [each["region"] for each in mostly if (each["method"], each["layer"]) == (method, layer)]
        kind = " ".join(filter(None, (method, layer)))
        named = ", ".join(map(spaced, regions))
        yield f"{kind} is too coarse for {named}: fewer than 4 of its cells fit in"


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
