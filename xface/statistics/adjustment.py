"""Do two sides differ at equal scores? A smooth function of the score is taken out of their difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import LEVEL, SEED, Estimate, finite
from xface.statistics.means import Codes, Mask, group_sums
from xface.statistics.permutation import PERMUTATIONS, Permuted, columns_alike, group_signs

SCORE_ENDS = 1e-6
"""Scores are clipped at so much from 0 and 1 before their logit is taken."""

CUBIC_FROM = 20  # groups of the smaller side, from which on the logit has a cubic spline
GROUPS_EACH = 5  # and for each so many more it has a knot
MOST_KNOTS = 12
VARIES = 1e-12  # less is a rounding error
SAME_DIRECTION = 1e-4  # of the largest singular value: less is a direction that is there already
TOLD_APART = 0.99  # part of the sides' variance that the score explains, from which on nothing is left
MARGIN = 0.5
"""Standard deviations of what the score leaves: numbers whose means are nearer than this are the same."""


@dataclass(frozen=True, eq=False)
class Adjusted:
    """K columns (N, K) on two sides at equal scores.

    `differences` have 95 % intervals; `errors` and `degrees` are those of their t statistics; `values` are
    the columns less what the score explains; `tested` is the test of no difference.
    """

    differences: list[Estimate]
    errors: FloatArray
    degrees: FloatArray
    values: FloatArray
    tested: Permuted

    def equivalence(self, margins: FloatArray) -> FloatArray:
        """p of each column that the sides differ by a margin (K,) or more; NaN where that is undefined.

        The larger p of two one-sided t tests (Schuirmann 1987): if it is at most 5 %, the 90 % interval lies
        between the margins.
        """
        from scipy.stats import t

        gaps = np.array([np.nan if each.value is None else each.value for each in self.differences])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(t.sf((margins - np.abs(gaps)) / self.errors, self.degrees))


def adjusted_differences(
    values: FloatArray,
    mask: Mask,
    scores: FloatArray,
    codes: Codes,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> Adjusted:
    """Compare K columns (N, K) where `mask` (N,) holds with the rest, at equal `scores` (N,).

    The difference is the coefficient b of the mask w in the least-squares regression of x on w and functions
    Z of the score (`score_functions`). With what Z leaves of both, b = sum of w x / sum of w^2 (Frisch and
    Waugh 1933), a sum over groups. Without a difference each group's part could have the other sign, so the
    signs of whole groups are flipped (Hemerik, Goeman and Finos 2020), each part being freed of the group's
    own pull on the fit, as in the jackknife (MacKinnon, Nielsen and Webb, J. Appl. Econometrics 2023: the
    score wild cluster bootstrap). The error of b is the jackknife's over groups, its interval from Student's
    t with one degree less than the smaller side has groups. Images of a group may depend on one another as
    they like.

    Columns are undefined where the score all but tells the sides apart. NaN in `values` is left out, column
    by column.

    Example:
        >>> scores = np.linspace(0.1, 0.9, 300)
        >>> high, noise = scores >= 0.5, np.random.default_rng(0).normal(size=300)
        >>> found = adjusted_differences((8 * scores + noise)[:, None], high, scores, np.arange(300))
        >>> found.tested.p_values() > 0.05
        array([ True])
    """
    shape = (values.shape[1],)
    gaps, errors, degrees, observed = (np.full(shape, np.nan) for _ in range(4))
    drawn = np.full((permutations, *shape), np.nan)
    left = np.full(values.shape, np.nan)
    for columns in columns_alike(values):
        kept = np.flatnonzero(np.isfinite(values[:, columns[0]]))
        if len(np.unique(mask[kept])) != 2:
            continue
        groups = np.unique(codes[kept], return_inverse=True)[1]
        fit = _Fit.of(values[np.ix_(kept, columns)], mask[kept], scores[kept], groups)
        if fit is None:
            continue
        gaps[columns], errors[columns], degrees[columns] = fit.gaps, fit.errors(), fit.smaller - 1
        left[np.ix_(kept, columns)] = fit.unexplained
        used = np.unique(codes[kept])
        signs = (each[:, used] for each in group_signs(int(codes.max()) + 1, permutations, seed))
        observed[columns], drawn[:, columns] = fit.test(signs)
    tested = Permuted(observed, drawn)
    return Adjusted(_intervals(gaps, errors, degrees), errors, degrees, left, tested)


def _intervals(gaps: FloatArray, errors: FloatArray, degrees: FloatArray) -> list[Estimate]:
    from scipy.stats import t

    reach = t.ppf((1 + LEVEL) / 2, degrees) * errors
    ends: Sequence[FloatArray] = (gaps, gaps - reach, gaps + reach)
    return [Estimate(*map(finite, each)) for each in np.stack(ends, axis=1)]


def score_functions(scores: FloatArray, groups: int) -> FloatArray:
    """Orthonormal columns (N, B) that span a constant, the score, its logit and a spline of the logit.

    From 20 `groups` on (those of the smaller side) the spline is cubic, and gets a knot for each five more up
    to 12, at quantiles: numbers that follow the score in a smooth curve, too, are taken out.

    Example:
        >>> [score_functions(np.linspace(0.1, 0.9, 200), groups).shape[1] for groups in (12, 20, 45, 200)]
        [3, 5, 9, 16]
    """
    logits = np.log(np.clip(scores, SCORE_ENDS, 1 - SCORE_ENDS))
    logits -= np.log1p(-np.clip(scores, SCORE_ENDS, 1 - SCORE_ENDS))
    columns = np.column_stack([scores, _spline(logits, groups)])
    columns = columns - columns.mean(axis=0)
    spread = columns.std(axis=0)
    columns = columns[:, spread > VARIES] / spread[spread > VARIES]
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    kept = left[:, sizes > SAME_DIRECTION * sizes.max(initial=0)]
    return np.column_stack([np.full(len(scores), len(scores) ** -0.5), kept])


def _spline(logits: FloatArray, groups: int) -> FloatArray:
    from scipy.interpolate import BSpline

    if groups < CUBIC_FROM or np.ptp(logits) == 0:
        return logits[:, None]
    count = min((groups - CUBIC_FROM) // GROUPS_EACH, MOST_KNOTS)
    inner = np.unique(np.quantile(logits, np.arange(1, count + 1) / (count + 1)))
    low, high = logits.min(), logits.max()
    inner = inner[(inner > low) & (inner < high)]
    knots = np.concatenate([np.repeat(low, 4), inner, np.repeat(high, 4)])
    return np.asarray(BSpline.design_matrix(logits, knots, 3).toarray()[:, 1:])


@dataclass(frozen=True, eq=False)
class _Fit:
    """What the functions of the score (N, B) leave of the mask, `side` (N,), and of the columns (N, K).

    `smaller` is how many groups the smaller side has.
    """

    smaller: int
    functions: FloatArray
    mask: Mask
    side: FloatArray
    values: FloatArray
    codes: Codes

    @classmethod
    def of(cls, values: FloatArray, mask: Mask, scores: FloatArray, codes: Codes) -> _Fit | None:
        """None where the score all but tells the sides apart."""
        smaller = min(len(np.unique(codes[mask == side])) for side in (True, False))
        functions = score_functions(scores, smaller)
        side, left = (each - functions @ (functions.T @ each) for each in (mask.astype(np.float64), values))
        if side @ side <= (1 - TOLD_APART) * mask.var() * len(mask):
            return None
        left[:, np.ptp(values, axis=0) == 0] = 0  # a constant's rest may be a rounding error
        return cls(smaller, functions, mask, side, left, codes)

    @property
    def gaps(self) -> FloatArray:
        """The coefficients of the mask (K,)."""
        return np.asarray(self.side @ self.values / (self.side @ self.side))

    @property
    def unexplained(self) -> FloatArray:
        """The columns less what the score explains of them beside the mask."""
        return np.asarray(self.values + (self.mask - self.side)[:, None] * self.gaps)

    def errors(self) -> FloatArray:
        """The jackknife's standard errors of the gaps over groups (K,); NaN where nothing varies."""
        squares = self.side @ self.side
        design = np.column_stack([self.side / np.sqrt(squares), self.functions])
        moves = self._parts(design, self.values - self.side[:, None] * self.gaps) / squares
        errors = np.sqrt((1 - 1 / len(moves)) * (moves**2).sum(axis=0))
        return np.where(errors > 0, errors, np.nan)

    def _parts(self, design: FloatArray, rest: FloatArray) -> FloatArray:
        """Each group's part of the sum of side x rest (G, K), were the fit made without the group.

        With the orthonormal design Q and its rows Q_g, rest_g becomes (1 - Q_g Q_g')^-1 rest_g.
        """
        count, size = int(self.codes.max()) + 1, design.shape[1]
        pulls = group_sums(design * self.side[:, None], self.codes, count)
        left = np.empty((count, size, size))
        for row in range(size):
            left[:, row] = -group_sums(design[:, [row]] * design, self.codes, count)
            left[:, row, row] += 1
        freed = np.einsum("gij,gj->gi", np.linalg.pinv(left, hermitian=True), pulls)
        weights = self.side + np.einsum("ni,ni->n", design, freed[self.codes])
        return group_sums(weights[:, None] * rest, self.codes, count)

    def test(self, signs: Iterator[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """The sum of the groups' parts over its size, as it is and with signs (B, G) flipped."""
        parts = self._parts(self.functions, self.values)
        scale = np.sqrt((parts**2).sum(axis=0))
        scale[scale == 0] = np.nan
        drawn = [each @ (parts / scale) for each in signs]
        return self.side @ self.values / scale, np.concatenate(drawn)
