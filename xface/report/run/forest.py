"""The forest plots of a run: lifts by outcome, and the odds of an error."""

from __future__ import annotations

from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.html.forest import Forest, Line, Series
from xface.results import CONTRASTS, POSITIVES, WRONG
from xface.runs.folder import Kind, RunFolder
from xface.wording import outcome_words, p_value, spaced

POSITIVE, NEGATIVE = DARK_VERMILION, DARK_BLUE

OUTCOME_SERIES = tuple(outcome for sides in CONTRASTS.values() for outcome in sides)


def lift_forest(run: RunFolder, kind: Kind) -> Forest:
    """The mean lift of every region for each outcome, in the maps of one kind."""
    words = outcome_words(run.manifest["positive"], run.manifest["classes"])
    series = [
        Series(
            f"{name}: {words[name]}",
            POSITIVE if name in POSITIVES else NEGATIVE,
            name in POSITIVES,
            name in WRONG,
        )
        for name in OUTCOME_SERIES
    ]
    rows = [
        r for r in run.findings["regions"] if (r["method"], r["layer"] or "") == (kind.method, kind.layer)
    ]
    found = {(row["region"], row["outcome"]): row["lift"] for row in rows}
    lines = [
        Line(region_name(run, kind, region), tuple(found.get((region, name)) for name in OUTCOME_SERIES),
             _remarks(run, kind, region))
        for region in dict.fromkeys(row["region"] for row in rows)
    ]  # fmt: skip
    axis = "mean lift: times the share that chance would give (1 = chance)"
    return Forest(f"Where {kind.name} looks, by outcome", axis, tuple(series), tuple(lines))


def region_name(run: RunFolder, kind: Kind, region: str) -> str:
    """A region in words, marked where the kind's maps are too coarse for it."""
    return f"{spaced(region)}{' (coarse)' if region in coarse_regions(run, kind) else ''}"


def coarse_regions(run: RunFolder, kind: Kind) -> set[str]:
    """The regions for which most maps of a kind are too coarse."""
    return {
        row["region"]
        for row in run.findings["health"]["coarse"]
        if (row["method"], row["layer"] or "") == (kind.method, kind.layer) and row["part"] > 0.5
    }


def _remarks(run: RunFolder, kind: Kind, region: str) -> tuple[str, ...]:
    return tuple(
        f"{row['contrast'].replace('-', ' > ' if row['difference']['value'] > 0 else ' < ')}"
        f" (q {p_value(row['q'])})"
        for row in run.findings["contrasts"]
        if row["finding"]
        and (row["method"], row["layer"] or "", row["region"]) == (kind.method, kind.layer, region)
    )


def odds_forest(run: RunFolder) -> Forest:
    """How the odds of an error change per standard deviation of each attribute, the others held constant."""
    lines = tuple(
        Line(
            run.label(row["attribute"]),
            (row["odds_ratio"],),
            (f"q {p_value(row['q'])}",) if row["finding"] else (),
        )
        for row in (run.findings["regression"] or {}).get("rows", ())
    )
    series = (Series("odds ratio", NEGATIVE, False, True),)
    return Forest("Errors and attributes", "odds ratio of an error per standard deviation (1 = no effect)",
                  series, lines)  # fmt: skip
