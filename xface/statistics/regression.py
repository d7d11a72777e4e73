"""What goes with errors when all attributes are looked at together: one logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS, LEVEL, Estimate
from xface.statistics.effects import ALPHA, false_discovery
from xface.statistics.means import Codes, Mask
from xface.wording import counted

COLLINEAR = 0.95  # part of an attribute's variance that others explain
DEFINED = 0.5  # least part of the images
LARGEST = 30  # log odds that no data can tell from infinite
ERRORS_EACH = 5  # per attribute (Vittinghoff and McCulloch, Am. J. Epidemiol. 2007)


@dataclass(frozen=True)
class Odds:
    """By how much one standard deviation more of an attribute multiplies the odds of an error."""

    attribute: str
    odds_ratio: Estimate
    p: float
    q: float
    finding: bool


@dataclass(frozen=True)
class Regression:
    """One regression of `outcome` on attributes; `note` says what was left out, or why there are no rows."""

    outcome: str
    rows: tuple[Odds, ...]
    n: int
    groups: int
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def regress(
    names: Sequence[str],
    values: FloatArray,
    wrong: Mask,
    codes: Codes,
    truth: Mask | None = None,
    outcome: str = "wrong",
) -> Regression:
    """Fit log odds of `wrong` (N,) = b0 + sum of b_k z_k, z being attributes (N, K) over their deviations.

    By maximum likelihood (statsmodels). exp(b_k) is the odds ratio per standard deviation with the other
    attributes held constant; its error is the jackknife's over groups (`jackknife_errors`), its 95 % interval
    and p are from Student's t with groups - 1 degrees; q is over the attributes. `truth` (N,), if given and
    mixed, joins as a number that is not reported, so that its effect is not attributed to the attributes.
    Only images with all attributes are used; attributes that are constant, mostly undefined or nearly
    determined by those before them are omitted, with a note.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> z = rng.normal(size=(400, 2))
        >>> found = regress(["a", "b"], z, rng.random(400) < 1 / (1 + np.exp(-z[:, 0])), np.arange(400))
        >>> [row.attribute for row in found.rows if row.finding]
        ['a']
    """
    usable, notes = _usable(names, values)
    complete = np.flatnonzero(np.isfinite(values[:, usable]).all(axis=1))
    if len(complete) < len(values):
        lacking = counted(len(values) - len(complete), "image")
        notes.append(f"{lacking} without one of the attributes omitted")
    kept, more = _independent(usable, names, values[complete])
    wrong, codes = wrong[complete], codes[complete]
    given = None if truth is None or len(np.unique(truth[complete])) < 2 else truth[complete]
    rows: tuple[Odds, ...] = ()
    said = _refusal(wrong, codes, len(kept))
    if not said:
        rows, said = _fit([names[k] for k in kept], values[complete][:, kept], wrong, codes, given)
    if rows and given is not None:
        said = "the true class is held constant too"
    parts = [part for part in (said, *notes, *more) if part]
    return Regression(outcome, rows, len(complete), len(np.unique(codes)), "; ".join(parts))


def _usable(names: Sequence[str], values: FloatArray) -> tuple[list[int], list[str]]:
    defined = np.isfinite(values).mean(axis=0) if len(values) else np.zeros(len(names))
    sparse = [name for name, part in zip(names, defined, strict=True) if part < DEFINED]
    notes = [f"{', '.join(sparse)}: undefined for most images, omitted"] if sparse else []
    return [k for k, part in enumerate(defined) if part >= DEFINED], notes


def _independent(
    kept: Sequence[int], names: Sequence[str], values: FloatArray
) -> tuple[list[int], list[str]]:
    """Those of the columns that vary and are not nearly determined by those before them."""
    chosen: list[int] = []
    notes = []
    for k in kept:
        if len(values) == 0 or np.std(values[:, k]) <= 1e-9 * np.abs(values[:, k]).max():
            notes.append(f"{names[k]}: constant, omitted")
        elif chosen and _explained(values[:, k], values[:, chosen]) > COLLINEAR:
            notes.append(f"{names[k]}: nearly determined by other attributes, omitted")
        else:
            chosen.append(k)
    return chosen, notes


def _explained(column: FloatArray, others: FloatArray) -> float:
    from sklearn.linear_model import LinearRegression

    return float(LinearRegression().fit(others, column).score(others, column))


def _refusal(wrong: Mask, codes: Codes, attributes: int) -> str:
    sides = [len(np.unique(codes[wrong == side])) for side in (True, False)]
    if min(sides) < LEAST_GROUPS:
        return f"not fitted: fewer than {LEAST_GROUPS} groups with errors, or without"
    if not attributes:
        return "not fitted: no attribute to fit"
    if min(wrong.sum(), (~wrong).sum()) < ERRORS_EACH * attributes:
        return f"not fitted: fewer than {ERRORS_EACH} errors, or correct images, per attribute"
    return ""


def _fit(
    names: Sequence[str], values: FloatArray, wrong: Mask, codes: Codes, truth: Mask | None
) -> tuple[tuple[Odds, ...], str]:
    """The rows, or none and why."""
    from statsmodels.api import Logit
    from statsmodels.tools.sm_exceptions import (
        ConvergenceWarning,
        PerfectSeparationError,
        PerfectSeparationWarning,
    )

    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    rest = [np.ones(len(wrong))] + ([] if truth is None else [truth])
    design = np.column_stack([scaled, *rest])
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, PerfectSeparationWarning):
            warnings.simplefilter("error", kind)
        try:
            fitted = Logit(wrong, design).fit(disp=0)
            errors = jackknife_errors(design, wrong - fitted.predict(), codes)
        except (PerfectSeparationError, PerfectSeparationWarning):
            return (), "not fitted: the attributes part errors from the rest completely"
        except (ConvergenceWarning, np.linalg.LinAlgError):
            return (), "not fitted: it does not converge, as where attributes all but part the errors off"
    if not np.isfinite(errors).all() or np.abs(fitted.params).max() > LARGEST:
        return (), "not fitted: the attributes all but part errors from the rest"
    return _rows(names, np.asarray(fitted.params), errors, len(np.unique(codes)) - 1), ""


def jackknife_errors(design: FloatArray, residuals: FloatArray, codes: Codes) -> FloatArray:
    """Standard errors (K,) of a logistic regression's coefficients from leaving out each group in turn.

    Leaving out group g moves the coefficients by (H - H_g)^-1 s_g in one Newton step, s being the score and
    H the information, X' diag(p (1 - p)) X; the variance is (G - 1) / G times the sum of the squares (the
    linearised cluster jackknife of MacKinnon, Nielsen and Webb, Cluster-robust jackknife and bootstrap
    inference for logistic regression models). The usual sandwich is too small for fewer than some hundred
    groups. `residuals` are wrong - p.
    """
    predicted = np.where(residuals > 0, 1 - residuals, -residuals)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rows, weight = design[order], (predicted * (1 - predicted))[order, None]
    scores = np.add.reduceat(rows * residuals[order, None], starts)
    pieces = np.add.reduceat((rows * weight)[:, :, None] * rows[:, None, :], starts)
    moves = np.linalg.solve(pieces.sum(axis=0) - pieces, scores[:, :, None])[:, :, 0]
    return np.asarray(np.sqrt((1 - 1 / len(starts)) * (moves**2).sum(axis=0)))


def _rows(
    names: Sequence[str], coefficients: FloatArray, errors: FloatArray, degrees: int
) -> tuple[Odds, ...]:
    from scipy.stats import t

    reach = t.ppf((1 + LEVEL) / 2, degrees) * errors
    ps = 2 * t.sf(np.abs(coefficients / errors), degrees)[: len(names)]
    ends = np.exp(np.stack([coefficients, coefficients - reach, coefficients + reach]).T)
    return tuple(
        Odds(name, Estimate(*map(float, ratios)), float(p), q, q <= ALPHA)
        for name, ratios, p, q in zip(names, ends, ps, false_discovery(ps), strict=False)
    )
