"""Means, their intervals and the permutation test over groups, against slow definitions and scipy."""

from itertools import permutations, product

import numpy as np
import pytest
from simulated_frames import frames
from speed import Later

from xface.findings.contrasts import contrasts, corrected
from xface.results import CONTRASTS
from xface.statistics.effects import cliffs_delta, false_discovery
from xface.statistics.means import COLUMNS, group_sums, groups_with, mean_differences, proportion
from xface.statistics.permutation import Permuted, flip_signs, permute

stats, multitest = Later("scipy.stats"), Later("statsmodels.stats.multitest")

MANY = 20_000  # permutations: p is then within 0.012 of that of all, nearly always


def slow_statistic(values, mask, codes, order=None, signs=None):
    """T / sqrt(sum of U_g^2), group by group, as the docstring has it."""
    names = np.unique(codes)
    shares = np.array([mask[codes == g].mean() for g in names])[
        np.arange(len(names)) if order is None else order
    ]
    sizes = np.array([(codes == g).sum() for g in names])
    each = []
    for g, share, sign, size in zip(
        names, shares, np.ones(len(names)) if signs is None else signs, sizes, strict=True
    ):
        x, w = values[codes == g], mask[codes == g]
        within = sum((w - w.mean()) * (x - x.mean()))
        each.append(
            size * (share - shares @ sizes / sizes.sum()) * (x.mean() - values.mean()) + sign * within
        )
    return sum(each) / np.sqrt(np.square(each).sum())


def slow_p(values, mask, codes):
    """Over every order of the groups' parts with all signs."""
    count = len(np.unique(codes))
    drawn = [
        slow_statistic(values, mask, codes, list(order), signs)
        for order in permutations(range(count))
        for signs in product((-1, 1), repeat=count)
    ]
    return np.mean(np.abs(drawn) >= abs(slow_statistic(values, mask, codes)) - 1e-9)


def test_the_test_is_that_of_every_order_with_all_signs():
    codes, rng = np.repeat(np.arange(4), [3, 2, 1, 4]), np.random.default_rng(0)
    values = rng.normal(size=(10, 3)) + np.array([0, 1, 3]) * (codes[:, None] > 1)
    mask = np.array([1, 0, 0, 1, 1, 0, 0, 1, 1, 1], bool)
    found = permute(values, mask, codes, MANY)
    assert found.observed == pytest.approx([slow_statistic(column, mask, codes) for column in values.T])
    assert found.p_values() == pytest.approx([slow_p(column, mask, codes) for column in values.T], abs=0.012)


def mean_gap(one, other, axis):
    return one.mean(axis=axis) - other.mean(axis=axis)


def test_groups_of_one_image_or_one_verdict_get_the_test_of_two_samples():
    values = np.random.default_rng(1).normal(size=10) + 0.8 * (np.arange(10) < 5)
    mask = np.arange(10) < 5
    exact = stats.permutation_test((values[mask], values[~mask]), mean_gap, n_resamples=np.inf).pvalue
    assert permute(values[:, None], mask, np.arange(10), MANY).p_values() == pytest.approx([exact], abs=0.012)
    thrice = permute(np.repeat(values, 3)[:, None], np.repeat(mask, 3), np.repeat(np.arange(10), 3), MANY)
    assert thrice.p_values() == pytest.approx([exact], abs=0.012)  # more frames of the same say nothing more


def test_groups_with_both_verdicts_get_the_test_of_pairs():
    one = np.random.default_rng(2).normal(size=9)
    other = one + np.random.default_rng(3).normal(0.4, 0.5, size=9)
    exact = stats.permutation_test(
        (one, other), mean_gap, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    values, mask = np.concatenate([one, other])[:, None], np.arange(18) < 9
    found = permute(values, mask, np.tile(np.arange(9), 2), MANY)
    assert found.p_values() == pytest.approx([exact], abs=0.012)


def test_what_is_undefined_is_left_out_column_by_column():
    values, mask, codes = frames(0, columns=3)
    holes = values.copy()
    holes[::7, 1] = np.nan
    holes[:, 2] = 5.0
    found = permute(holes, mask, codes, 99).p_values()
    kept = np.isfinite(holes[:, 1])
    assert found[1] == permute(values[kept, 1:2], mask[kept], codes[kept], 99).p_values()[0]
    assert found[0] == permute(values[:, :1], mask, codes, 99).p_values()[0]
    assert np.isnan(found[2])
    assert np.isnan(permute(np.full((4, 1), np.nan), np.ones(4, bool), np.arange(4), 9).p_values()).all()
    assert permute(np.empty((0, 2)), np.empty(0, bool), np.empty(0, int), 9).observed.shape == (2,)


def test_p_values_of_many_columns_are_against_the_highest():
    drawn = np.array([[1.0, -3.0], [0.0, 2.0], [-2.0, np.nan]])
    found = Permuted(np.array([1.0, 2.0]), drawn)
    assert found.p_values() == pytest.approx([3 / 4, 3 / 4])
    assert found.higher() == pytest.approx([2 / 4, 2 / 4])
    assert found.highest() == pytest.approx([3 / 4, 2 / 4])


def test_frames_of_a_video_are_not_taken_for_independent():
    """200 sets without an effect: the test over groups finds one in about 5 %, that over frames in most."""
    found = naive = 0
    for seed in range(200):
        values, wrong, codes = frames(seed)
        found += permute(values, wrong, codes, 199).p_values()[0] <= 0.05
        naive += stats.ttest_ind(values[wrong, 0], values[~wrong, 0]).pvalue <= 0.05
    assert found <= stats.binom.ppf(0.999, 200, 0.05)
    assert naive > 60


def test_intervals_over_groups_hold_the_planted_difference():
    held = 0
    for seed in range(200):
        values, wrong, codes = frames(seed, effect=0.5)
        [found] = mean_differences(values, wrong, ~wrong, codes, resamples=399)
        assert found.value == pytest.approx(values[wrong].mean() - values[~wrong].mean())
        held += found.low <= 0.5 <= found.high
    low, high = stats.binom.ppf([0.001, 0.999], 200, 0.95)
    assert low <= held <= high


def test_an_interval_of_independent_images_is_close_to_students():
    values = np.random.default_rng(4).normal(3, 2, size=(400, COLUMNS + 1))
    everything = np.ones(400, bool)
    found = mean_differences(values, everything, None, np.arange(400))
    assert len(found) == COLUMNS + 1
    low, high = stats.t.interval(0.95, 399, values.mean(axis=0), stats.sem(values, axis=0))
    assert [each.low for each in found] == pytest.approx(low, abs=0.03)
    assert [each.high for each in found] == pytest.approx(high, abs=0.03)


def test_means_leave_out_what_is_undefined_and_have_no_interval_from_few_groups():
    values = np.array([1.0, np.nan, 3.0, 7.0])[:, None]
    first = np.array([True, True, False, True])
    [found] = mean_differences(values, first, ~first, np.arange(4))
    assert (found.value, found.low) == (1.0, None)
    [none] = mean_differences(values, np.zeros(4, bool), None, np.arange(4))
    assert none.value is None
    same = mean_differences(np.ones((50, 1)), np.ones(50, bool), None, np.arange(50))[0]
    assert (same.value, same.low) == (1.0, None)
    few = np.arange(50) < 5
    assert mean_differences(np.arange(50.0)[:, None], few, ~few, np.arange(50))[0].low is None
    assert mean_differences(np.arange(50.0)[:, None], ~few, None, np.arange(50) // 5 % 9)[0].low is None


def test_proportions_stay_within_0_and_1():
    found = proportion(np.arange(40) < 4, np.ones(40, bool), np.arange(40))
    assert found.value == 0.1
    assert found.low == 0
    assert 0.15 < found.high < 0.4


def test_groups_are_summed_and_counted():
    codes = np.array([2, 0, 2, 1])
    assert group_sums(np.array([[1.0], [2], [4], [8]]), codes, 3).ravel().tolist() == [2, 8, 5]
    assert groups_with(np.array([[1, 0], [0, 0], [1, 1], [0, 1]], bool), codes).tolist() == [1, 2]


def test_cliffs_delta_is_that_of_all_pairs():
    rng = np.random.default_rng(5)
    one, other = rng.integers(0, 5, (9, 3)).astype(float), rng.integers(1, 6, (7, 3)).astype(float)
    one[0, 2] = other[3, 2] = np.nan
    slow = [
        np.mean([np.sign(x - y) for x in a[np.isfinite(a)] for y in b[np.isfinite(b)]])
        for a, b in zip(one.T, other.T, strict=True)
    ]
    assert cliffs_delta(one, other) == pytest.approx(slow)
    assert np.isnan(cliffs_delta(np.empty((0, 1)), other[:, :1])).all()


def test_false_discovery_is_benjamini_and_hochbergs():
    ps = np.random.default_rng(6).random(40) ** 2
    assert false_discovery(ps) == pytest.approx(multitest.multipletests(ps, method="fdr_bh")[1])


def outcomes_of(wrong, positive=False):
    return np.where(wrong, *(("FN", "TP") if positive else ("FP", "TN")))


def test_a_planted_difference_is_found_among_others():
    values, wrong, codes = frames(0, columns=8)
    values[:, 3] -= 1.0 * wrong
    names = [{"attribute": str(k)} for k in range(8)]
    rows = corrected(contrasts(names, values, outcomes_of(wrong), codes, 999))
    found = [row for row in rows if row.contrast == "FP-TN"]
    assert [row.name["attribute"] for row in found if row.finding] == ["3"]
    row = found[3]
    assert row.n == (wrong.sum(), (~wrong).sum())
    assert row.groups == (len(set(codes[wrong])), len(set(codes[~wrong])))
    assert row.difference.low < -1.0 < row.difference.high
    assert row.means[0].value - row.means[1].value == pytest.approx(row.difference.value)
    qs = multitest.multipletests([each.p for each in found], method="fdr_bh")[1]
    assert [each.q for each in found] == pytest.approx(qs)
    assert all(each.p is each.q is None and "0 of false negatives" in each.note for each in rows[8:])


def test_a_table_seldom_finds_what_is_not_there():
    found = 0
    for seed in range(60):
        values, wrong, codes = frames(seed, columns=11)
        rows = corrected(contrasts([{}] * 11, values, outcomes_of(wrong), codes, 999))
        found += any(row.finding for row in rows)
    assert found <= stats.binom.ppf(0.99, 60, 0.05)


def test_fewer_than_ten_groups_on_a_side_get_no_p():
    values, wrong, codes = frames(0)
    few = wrong & (codes < 8)
    kept = few | ~wrong
    [row, _] = contrasts([{}], values[kept], outcomes_of(wrong[kept]), codes[kept], 99)
    assert row.p is None
    assert "fewer than 10 groups" in row.note
    assert row.difference.value is not None
    assert row.difference.low is None


def test_a_constant_is_said_not_to_vary_and_missing_numbers_are_counted():
    values, wrong, codes = frames(0, columns=2)
    values[:, 0] = 1.0
    values[np.flatnonzero(wrong)[:5], 1] = np.nan
    constant, holes, *_ = contrasts([{}, {}], values, outcomes_of(wrong), codes, 99)
    assert constant.p is None
    assert "nothing varies" in constant.note
    assert holes.missing == (5, 0)
    assert holes.n[0] == wrong.sum() - 5
    assert set(CONTRASTS) == {"FP-TN", "FN-TP"}


def test_pairs_are_tested_by_the_signs_of_whole_groups():
    """Against all signs of the groups' sums, and with single images against scipy's test of pairs."""
    rng = np.random.default_rng(0)
    codes = np.array([4, 0, 0, 1, 1, 1, 2, 3, 5, 5, 6, 7])
    values = rng.normal(0.5, 1, (len(codes), 3))
    values[3:5, 1], values[:, 2] = np.nan, 0
    sums = np.array([np.nansum(values[codes == g], axis=0) for g in range(8)])
    every = np.abs(np.array(list(product((-1, 1), repeat=8))) @ sums)
    expected = (every >= np.abs(sums.sum(axis=0)) - 1e-9).mean(axis=0)
    found = flip_signs(values, codes, MANY)
    np.testing.assert_allclose(found.p_values()[:2], expected[:2], atol=0.012)
    assert np.isnan(found.p_values()[2])
    single = flip_signs(values[:, :1], np.arange(len(codes)), MANY).p_values()
    by_scipy = stats.permutation_test(
        (values[:, 0],), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    np.testing.assert_allclose(single, by_scipy.pvalue, atol=0.012)
