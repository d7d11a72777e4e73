"""Is a number different where the verdict is wrong? A permutation test that keeps groups whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import SEED
from xface.statistics.means import Codes, Mask, group_sums

PERMUTATIONS = 4999
COLUMNS = 128  # worked on at once
CELLS = 2**21  # permuted at once, 16 MB
TIE = 1e-9


@dataclass(frozen=True)
class Permuted:
    """The statistic of each of K columns as `observed` (K,) and under permutations, `drawn` (B, K)."""

    observed: FloatArray
    drawn: FloatArray

    def p_values(self) -> FloatArray:
        """Two-sided p of each column alone, (1 + as far as observed) / (1 + B); NaN where nothing varies."""
        return self._p(np.abs(self.drawn), np.abs(self.observed))

    def higher(self) -> FloatArray:
        """One-sided p of each column alone: the mean is higher where the mask holds."""
        return self._p(self.drawn, self.observed)

    def highest(self) -> FloatArray:
        """One-sided p against the highest of all columns (Westfall and Young 1993): for the best of many."""
        top = np.fmax.reduce(self.drawn, axis=1, initial=-np.inf)[:, None]
        return self._p(np.broadcast_to(top, self.drawn.shape), self.observed)

    def furthest(self) -> FloatArray:
        """Two-sided p against the furthest of all columns, for any of them (Westfall and Young 1993)."""
        top = np.fmax.reduce(np.abs(self.drawn), axis=1, initial=-np.inf)[:, None]
        return self._p(np.broadcast_to(top, self.drawn.shape), np.abs(self.observed))

    @staticmethod
    def _p(drawn: FloatArray, observed: FloatArray) -> FloatArray:
        reached = (drawn >= observed - TIE * np.abs(observed)).sum(axis=0)
        return np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + len(drawn)))


def permute(
    values: FloatArray | Mask, mask: Mask, codes: Codes, permutations: int = PERMUTATIONS, seed: int = SEED
) -> Permuted:
    """Test K columns (N, K) for another mean where `mask` (N,) holds, under permutations of whole groups.

    The difference of the two means is, but for a factor, T = sum over images of (w - mean w)(x - mean x),
    w being 1 where the mask holds. Within group g of n_g images it parts into

        U_g = n_g (w_g - mean w)(x_g - mean x) + C_g,  C_g = sum over its images of (w - w_g)(x - x_g),

    w_g and x_g being the group's means. If the verdicts have nothing to do with x, then (1) groups could
    have exchanged their parts of wrong verdicts: the w_g are permuted over all groups; and (2) a group's
    wrong and right images could have exchanged places: the sign of C_g is flipped. Images of a group are
    never treated apart, so they may depend on one another as they like. With one image, or one verdict, in
    each group, only (1) is at work, the usual permutation test of two samples; with as many wrong as right
    in each, only (2), that of pairs. Both are exact. Else, groups being of different sizes, the test is
    exact for many groups: hence T is divided by the root of the sum of U_g^2 in each permutation too (Janssen
    1997; Chung and Romano 2013; sign flips: Hemerik, Goeman and Finos 2020).

    NaN in `values` is left out, column by column.

    Example:
        >>> rows = np.arange(12.0)[:, None]
        >>> permute(rows, rows[:, 0] >= 6, np.arange(12)).p_values() < 0.01
        array([ True])
    """
    observed = np.full(values.shape[1], np.nan)
    drawn = np.full((permutations, values.shape[1]), np.nan)
    for columns in columns_alike(values):
        kept = np.isfinite(values[:, columns[0]])
        if not kept.any():
            continue
        groups = np.unique(codes[kept], return_inverse=True)[1]
        sums = _Sums.of(values[np.ix_(kept, columns)].astype(np.float64), mask[kept], groups)
        observed[columns], drawn[:, columns] = sums.test(permutations, seed)
    return Permuted(observed, drawn)


def flip_signs(
    values: FloatArray, codes: Codes, permutations: int = PERMUTATIONS, seed: int = SEED
) -> Permuted:
    """Test the means of K columns (N, K) of differences within pairs against 0, flipping whole groups.

    If the two of a pair could have exchanged places, each group's sum could have had the other sign, whatever
    its images have to do with one another (the sign-flip test: Hemerik, Goeman and Finos 2020). NaN in
    `values` is left out.

    Example:
        >>> gaps = np.repeat([[1.0, 1.0], [1.0, -1.0]], 10, axis=0)
        >>> flip_signs(gaps, np.arange(20)).p_values() < 0.01
        array([ True, False])
    """
    numbers = np.unique(codes, return_inverse=True)[1]
    groups = int(numbers.max(initial=-1)) + 1
    sums = group_sums(np.nan_to_num(values), numbers, groups)
    sizes = np.sqrt((sums**2).sum(axis=0))
    parts = sums / np.where(sizes > 0, sizes, np.nan)
    drawn = [signs @ parts for signs in group_signs(groups, permutations, seed)]
    return Permuted(np.where(sizes > 0, parts.sum(axis=0), np.nan), np.concatenate(drawn))


def group_signs(groups: int, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Signs of all groups (B, groups), some at a time: the same for all columns."""
    rng = np.random.default_rng(seed)
    size = max(1, CELLS // max(1, groups))
    for start in range(0, permutations, size):
        yield 2.0 * rng.integers(2, size=(min(size, permutations - start), groups)) - 1


def columns_alike(values: FloatArray | Mask) -> Iterator[Codes]:
    """The columns that are defined for the same images, some at a time."""
    patterns = np.packbits(np.isfinite(values), axis=0)
    _, kinds = np.unique(patterns, axis=1, return_inverse=True)
    for kind in range(int(kinds.max(initial=-1)) + 1 if len(values) else 0):
        columns = np.flatnonzero(kinds.ravel() == kind)
        yield from np.array_split(columns, -(-len(columns) // COLUMNS))


@dataclass(frozen=True)
class _Sums:
    """Per group: `sizes` and part `wrong` (G,), n_g (x_g - mean x) as `between`, C_g as `within` (G, K)."""

    sizes: FloatArray
    wrong: FloatArray
    between: FloatArray
    within: FloatArray

    @staticmethod
    def of(values: FloatArray, mask: Mask, codes: Codes) -> _Sums:
        groups = int(codes.max()) + 1
        centred = values - values.mean(axis=0)
        centred[:, np.ptp(values, axis=0) == 0] = 0  # a constant's mean may be a rounding error away
        sizes, counts = group_sums(np.stack([np.ones(len(mask)), mask], axis=1), codes, groups).T
        wrong = counts / sizes
        between = group_sums(centred, codes, groups)
        within = group_sums(centred * mask[:, None], codes, groups) - wrong[:, None] * between
        within[(counts == 0) | (counts == sizes)] = 0  # not a rounding error either
        return _Sums(sizes, wrong, between, within)

    def test(self, permutations: int, seed: int) -> tuple[FloatArray, FloatArray]:
        signs = np.ones((1, len(self.sizes)))
        rng = np.random.default_rng(seed)
        size = max(1, CELLS // len(self.sizes))
        counts = [min(size, permutations - start) for start in range(0, permutations, size)]
        drawn = [self._statistic(*self._draw(rng, count)) for count in counts]
        return self._statistic(self.wrong[None], signs)[0], np.concatenate(drawn)

    def _draw(self, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
        shape = (count, len(self.sizes))
        wrong = rng.permuted(np.broadcast_to(self.wrong, shape), axis=1)
        return wrong, 2.0 * rng.integers(2, size=shape) - 1 if self.within.any() else np.ones(shape)

    def _statistic(self, wrong: FloatArray, signs: FloatArray) -> FloatArray:
        """T / sqrt(sum of U_g^2) for parts of wrong verdicts and signs (B, G): (B, K)."""
        wrong = wrong - (wrong @ self.sizes / self.sizes.sum())[:, None]
        total = wrong @ self.between
        squares = wrong**2 @ self.between**2
        if self.within.any():
            total += signs @ self.within
            squares += 2 * (wrong * signs) @ (self.between * self.within) + (self.within**2).sum(axis=0)
        undefined = np.full(total.shape, np.nan)
        return np.asarray(np.divide(total, np.sqrt(np.maximum(squares, 0)), out=undefined, where=squares > 0))
