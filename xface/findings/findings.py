"""What a run over labelled images shows: where the detector fails, and what goes with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.findings.breakdowns import Breakdown, break_down, breakdown_sentences
from xface.findings.columns import Columns, Judged, attribute_columns, on_the_face, region_columns
from xface.findings.contrasts import Contrast, contrasts, corrected
from xface.findings.health import Health, check_health, summarise
from xface.findings.proposals import ProposedThreshold, proposals
from xface.findings.repair_sentences import RepairWords
from xface.findings.repairs import Repair, repairs, with_right
from xface.findings.sentences import (
    SIDES,
    Sentence,
    attribute_sentences,
    likeness_sentences,
    nothing_found,
    region_sentences,
    regression_sentences,
    slice_sentences,
)
from xface.findings.top import Evidence, with_p_all
from xface.results import CONTRASTS, LIKENESSES, OUTCOMES, WRONG
from xface.runs.attributes import attributes_of
from xface.runs.folder import is_trained
from xface.statistics.bootstrap import Estimate
from xface.statistics.clusters import Cluster, find_clusters
from xface.statistics.effects import ALPHA
from xface.statistics.means import groups_with, mean_differences, within
from xface.statistics.regression import Regression, regress
from xface.statistics.slices import Slice, find_slices, members
from xface.wording import UNTRAINED_RUN, kind_name, outcome_words

if TYPE_CHECKING:
    import pandas as pd

PRIMARY = "FP-TP"
NOTE = (
    f"The sentences at the top stand against all that the run tests: with nothing there, at most "
    f"{100 * ALPHA:.0f} % of runs have any. Below, each of seven families (the primary contrast, regions, "
    f"attributes, the regression, slices, hidden parts, columns) is tested at {100 * ALPHA:.0f} % by itself: "
    f"with nothing there, up to one run in four shows something."
)
"""How often is in benchmarks/results/conclusions.json."""


@dataclass(frozen=True)
class RegionMean:
    """Where the maps of one outcome lie: a region's mean lift and share."""

    method: str
    layer: str
    region: str
    outcome: str
    n: int
    groups: int
    lift: Estimate
    share: Estimate


@dataclass(frozen=True)
class Primary:
    """The one contrast that is stated before any is looked at, and tested alone."""

    text: str
    method: str
    layer: str
    contrast: str
    region: str
    result: Contrast


@dataclass(frozen=True)
class Findings:
    """What is concluded from a run; `to_json` gives the content of `findings.json`."""

    summary: Mapping[str, Any]
    health: Health
    primary: Primary | None
    regions: tuple[RegionMean, ...]
    contrasts: tuple[Contrast, ...]
    attributes: tuple[Contrast, ...]
    regression: Regression
    regressions: Mapping[str, Regression]
    slices: tuple[Slice, ...]
    clusters: tuple[Cluster, ...]
    breakdowns: tuple[Breakdown, ...]
    proposals: tuple[ProposedThreshold, ...]
    sentences: tuple[Sentence, ...]
    repairs: tuple[Repair, ...] | None = None
    level: float = ALPHA
    note: str = NOTE

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a number that is undefined is None."""
        return {
            "level": self.level,
            **{name: plain(getattr(self, name)) for name in self.__dataclass_fields__},
        }


def plain(value: Any) -> Any:
    """A record as JSON has it: what has `to_json` by that, other dataclasses by their fields.

    Example:
        >>> plain({"a": (Estimate(0.5), float("nan"))})
        {'a': [{'value': 0.5, 'low': None, 'high': None}, None]}
    """
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def conclude(
    images: pd.DataFrame,
    regions: pd.DataFrame,
    manifest: Mapping[str, Any],
    effects: pd.DataFrame | None = None,
) -> Findings:
    """Conclude from the tables of a run what differs between right and wrong verdicts, and what repairs them.

    `images`, `regions`, `manifest` and `effects` (of a run that has them) are as a run folder has them. The
    same tables give the same findings: all that is drawn has a fixed seed. Groups are never divided.
    docs/statistics.md says how.
    """
    if regions["layer"].isna().any():
        regions = regions.assign(layer=regions["layer"].astype(object).fillna(""))
    finite = np.isfinite(images["score"].to_numpy(np.float64))
    scored = images[(images["outcome"] != "") & finite].reset_index(drop=True)
    judged = Judged.of(scored, float(manifest["threshold"]["value"]))
    lifts, shares = (region_columns(scored, regions, name, manifest["kinds"]) for name in ("lift", "share"))
    words = attributes_of(manifest)
    attributes = attribute_columns(scored, tuple(words))
    regression, regressions = regress_all(attributes, judged)
    health = check_health(images, regions)
    primary = primary_contrast(shares, judged)
    parts = () if effects is None else repairs(effects, judged)
    tables = (
        [primary.result] if primary else [],
        region_contrasts(lifts, judged, health.coarse_regions),
        attribute_contrasts(attributes, judged),
        [row.against_right for row in parts if row.against_right],
    )
    slices = find_slices(attributes.short, attributes.values, judged.wrong, judged.codes)
    (of_primary, of_regions, of_attributes, of_repairs), slices = with_p_all(tables, slices)
    parts = with_right(parts, of_repairs)
    found = Findings(
        summary={
            "trained": is_trained(manifest),
            **summarise(images, scored, judged, manifest["threshold"]),
        },
        health=health,
        primary=primary and replace(primary, result=of_primary[0]),
        regions=tuple(region_means(lifts, shares, judged)),
        contrasts=of_regions,
        attributes=of_attributes,
        regression=regression,
        regressions=regressions,
        slices=slices,
        clusters=tuple(clusters_of_errors(lifts, shares, judged)),
        breakdowns=break_down(scored, manifest.get("by", ()), judged),
        proposals=proposals(manifest.get("proposals", ()), scored["score"].to_numpy(np.float64), judged),
        sentences=(),
        repairs=None if effects is None else parts,
    )
    meanings = meanings_of(manifest)
    told = tell(found, lifts, shares, attributes, judged, words, meanings, RepairWords.of(parts, manifest))
    return replace(found, sentences=tuple(told))


def meanings_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the outcomes mean in the run's classes, where the manifest says which they are."""
    if "positive" not in manifest or "classes" not in manifest:
        return {}
    return outcome_words(manifest["positive"], manifest["classes"])


def region_contrasts(
    lifts: Columns, judged: Judged, coarse: Sequence[Mapping[str, str]]
) -> tuple[Contrast, ...]:
    """All contrasts of the lifts at equal scores: a map explains the score, so the two go together anyway."""
    given = (lifts.names, lifts.values, judged.outcomes, judged.codes)
    rows = corrected(contrasts(*given, scores=judged.scores, sides=SIDES))
    return tuple(replace(row, coarse=row.name in coarse) for row in rows)


def attribute_contrasts(attributes: Columns, judged: Judged) -> tuple[Contrast, ...]:
    """Those with right verdicts of the same predicted class at equal scores, those of the same truth as is.

    An attribute is measured on the picture alone. That darkness moves the score, and so the verdict, is what
    is asked; at equal scores nothing of it would be left.
    """
    given = (attributes.names, attributes.values, judged.outcomes, judged.codes)
    alike = contrasts(*given, scores=judged.scores, sides=LIKENESSES)
    return corrected([*alike, *contrasts(*given, sides=CONTRASTS)])


def primary_contrast(shares: Columns, judged: Judged) -> Primary | None:
    """The first kind's part on the face, false positives against true positives; None without a map."""
    face = on_the_face(shares)
    if not face.names:
        return None
    name = face.names[0]
    one, other = (OUTCOMES[outcome] for outcome in SIDES[PRIMARY])
    text = (
        f"Primary test: does the share of {kind_name(name)} on the face (1 - the background's share) differ "
        f"between {one} and {other} at equal scores? "
        f"Fixed before the analysis and tested alone, at {100 * ALPHA:.0f} %."
    )
    given = (face.names[:1], face.values[:, :1], judged.outcomes, judged.codes)
    [row] = contrasts(*given, scores=judged.scores, sides={PRIMARY: SIDES[PRIMARY]})
    result = replace(row, finding=row.p is not None and row.p <= ALPHA)
    return Primary(text, name["method"], name["layer"], PRIMARY, name["region"], result)


def region_means(lifts: Columns, shares: Columns, judged: Judged) -> Iterator[RegionMean]:
    """Each region's means for each outcome, with intervals over groups."""
    for outcome in OUTCOMES:
        side = judged.outcomes == outcome
        defined = np.isfinite(lifts.values[side])
        counts = zip(
            defined.sum(axis=0).tolist(), groups_with(defined, judged.codes[side]).tolist(), strict=True
        )
        lift, share = (mean_differences(each.values, side, None, judged.codes) for each in (lifts, shares))
        for name, (n, number), one, other in zip(lifts.names, counts, lift, share, strict=True):
            ends = (within(one, 0.0, float("inf")), within(other, 0.0, 1.0))
            yield RegionMean(name["method"], name["layer"], name["region"], outcome, n, number, *ends)


def regress_all(attributes: Columns, judged: Judged) -> tuple[Regression, dict[str, Regression]]:
    """The regression of all errors, and for each contrast that of its images alone."""
    names, values, wrong, codes = attributes.short, attributes.values, judged.wrong, judged.codes
    apart = {}
    for contrast, sides in CONTRASTS.items():
        of = np.isin(judged.outcomes, sides)
        apart[contrast] = regress(names, values[of], wrong[of], codes[of], outcome=sides[0])
    return regress(names, values, wrong, codes, judged.positive), apart


def clusters_of_errors(lifts: Columns, shares: Columns, judged: Judged) -> Iterator[Cluster]:
    """The clusters of false positives and of false negatives, kind by kind."""
    kinds = dict.fromkeys((name["method"], name["layer"]) for name in shares.names)
    for outcome in WRONG:
        side = judged.outcomes == outcome
        for method, layer in kinds:
            share, lift = (each.where(method=method, layer=layer) for each in (shares, lifts))
            regions = [name["region"] for name in share.names]
            values = (share.values[side], lift.values[side], judged.rows[side])
            yield from find_clusters(regions, *values, outcome, method, layer)


def tell(
    found: Findings,
    lifts: Columns,
    shares: Columns,
    attributes: Columns,
    judged: Judged,
    words: Mapping[str, Mapping[str, str]],
    meanings: Mapping[str, str],
    parts: RepairWords,
) -> Iterator[Sentence]:
    """All sentences: a caution, the top, what is the same, then by family what was found and what was not."""
    if not found.summary["trained"]:
        yield Sentence(f"{UNTRAINED_RUN}.", "caution", "", "untrained", ())
    inside = [members(each, attributes.short, attributes.values) for each in found.slices]
    primary = [found.primary.result] if found.primary else []
    yield from Evidence(
        found.attributes,
        (*primary, *found.contrasts),
        tuple(zip(found.slices, inside, strict=True)),
        attributes,
        lifts.beside(on_the_face(shares)),
        judged,
        found.regressions,
        words,
        meanings,
        parts.top(),
    ).sentences()
    if found.repairs is not None:
        yield from parts.sentences()
    yield from likeness_sentences(found.contrasts, "regions", judged)
    yield from likeness_sentences(found.attributes, "attributes", judged)
    yield from region_sentences(primary, on_the_face(shares), judged, "share")
    yield from region_sentences(found.contrasts, lifts, judged)
    yield from nothing_found(found.contrasts, "regions")
    yield from attribute_sentences(found.attributes, attributes, judged, found.regressions, words)
    yield from nothing_found(found.attributes, "attributes")
    yield from regression_sentences(found.regression, attributes, judged)
    yield from slice_sentences(found.slices, inside, judged)
    yield from breakdown_sentences(found.breakdowns, judged)
