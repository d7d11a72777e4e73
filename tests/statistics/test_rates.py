"""Rates over groups, and proposed thresholds: against exact definitions, and against the simulated truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from xface.errors import UsageError
from xface.statistics.bootstrap import Estimate
from xface.statistics.rates import rate
from xface.statistics.thresholds import at_cost, at_false_positive_rate, choose_threshold, propose_threshold


def every(count):
    return np.ones(count, bool)


class TestRate:
    @pytest.mark.parametrize("hits", [0, 1, 7, 39, 40])
    def test_of_independent_images_it_is_scipys(self, hits):
        exact = binomtest(hits, 40).proportion_ci(method="exact")
        found = rate(np.arange(40) < hits, every(40), np.arange(40))
        assert (found.value, found.low, found.high) == pytest.approx((hits / 40, exact.low, exact.high))

    def test_copies_of_an_image_tell_no_more_than_it(self):
        hits, codes = np.arange(60) % 3 == 0, np.arange(60)
        once, copied = (
            rate(hits, every(60), codes),
            rate(*(np.repeat(each, 9) for each in (hits, every(60), codes))),
        )
        assert copied.value == once.value
        assert copied.high - copied.low > 0.98 * (once.high - once.low)

    def test_only_the_rows_among_count(self):
        rng = np.random.default_rng(0)
        hits, among, codes = rng.random(200) < 0.2, rng.random(200) < 0.5, rng.integers(40, size=200)
        assert rate(hits, among, codes) == rate(hits[among], every(among.sum()), codes[among])

    def test_few_groups_have_no_interval(self):
        assert rate(np.arange(90) < 9, every(90), np.arange(90) % 9) == Estimate(0.1)

    @pytest.mark.parametrize(
        ("groups", "size", "part", "alike"), [(12, 8, 0.1, 0.5), (30, 5, 0.05, 0.5), (60, 5, 0.02, 0.5)]
    )
    def test_intervals_hold_the_truth_of_rare_errors_in_related_images(self, groups, size, part, alike):
        rng, codes, held = np.random.default_rng(1), np.repeat(np.arange(groups), size), []
        odds = (1 - alike) / alike
        for _ in range(300):
            inclined = rng.beta(part * odds, (1 - part) * odds, groups)
            found = rate(rng.random(len(codes)) < inclined[codes], every(len(codes)), codes)
            held.append(found.low <= part <= found.high)
        assert np.mean(held) >= 0.95


def scores(rng, groups, size):
    """Scores of related images, class by class: their logits are normal around 1 and -1."""
    codes = np.repeat(np.arange(groups), size)
    truth = codes % 2 == 0
    shared, own = rng.normal(0, 0.7, groups)[codes], rng.normal(0, 0.51**0.5, len(codes))
    return truth, 1 / (1 + np.exp(-np.where(truth, 1, -1) - shared - own)), codes


class TestProposals:
    def test_no_stricter_threshold_keeps_the_rate_with_more_recall(self):
        truth, values, _ = scores(np.random.default_rng(2), 300, 1)
        for most in (0.0, 0.05, 0.3, 1.0):
            chosen = choose_threshold(truth, values, at_false_positive_rate(most))
            kept = [cut for cut in [*values, 1.0] if np.mean(values[~truth] >= cut) <= most]
            assert np.mean(values[~truth] >= chosen) <= most
            assert np.mean(values[truth] >= chosen) == max(np.mean(values[truth] >= cut) for cut in kept)

    def test_no_threshold_costs_less(self):
        truth, values, _ = scores(np.random.default_rng(3), 300, 1)
        for one, other in ((5, 1), (1, 1), (0.2, 3)):

            def cost(cut, one=one, other=other):
                return one * np.sum(values[~truth] >= cut) + other * np.sum(values[truth] < cut)

            assert cost(choose_threshold(truth, values, at_cost(one, other))) == min(
                map(cost, [*values, 1.0])
            )

    def test_what_cannot_be_had_is_said(self):
        with pytest.raises(UsageError, match="no threshold is strict enough"):
            choose_threshold([1, 0, 0], [0.5, 1.0, 0.2], at_false_positive_rate(0.4))
        found = propose_threshold([1] * 30, np.linspace(0, 1, 30), np.arange(30), at_cost(1, 1))
        assert (found.threshold, found.note) == (
            None,
            "a threshold can be chosen only on images of both classes",
        )
        few = propose_threshold([1, 0] * 16, [0.9, 0.1] * 16, np.arange(32) // 4, at_cost(1, 1))
        assert few.recall == Estimate(1.0)
        assert "fewer than 10 groups" in few.note

    @pytest.mark.parametrize("criterion", [at_false_positive_rate(0.1), at_cost(5, 1)], ids=["rate", "cost"])
    def test_its_rates_hold_the_truth_and_do_not_flatter(self, criterion):
        held, gaps, rng = [], [], np.random.default_rng(4)
        for seed in range(150):
            truth, values, codes = scores(rng, 120, 3)
            found = propose_threshold(truth, values, codes, criterion, seed)
            cut = np.log(found.threshold / (1 - found.threshold))
            for rate_, true in (
                (found.false_positive_rate, norm.sf(cut + 1)),
                (found.recall, norm.sf(cut - 1)),
            ):
                held.append(rate_.low <= true <= rate_.high)
                gaps.append(rate_.value - true)
        assert np.mean(held) >= 0.93
        assert abs(np.mean(gaps)) < 0.01
