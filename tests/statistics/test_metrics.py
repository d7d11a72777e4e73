"""Every metric against a slow definition and against scikit-learn; intervals against the truth."""

from dataclasses import fields
from math import isclose, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from project import ROOT
from speed import Later

from xface.errors import UnknownNameError, UsageError
from xface.evaluation.thresholds import Threshold, stated_threshold
from xface.statistics import metrics as ours
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate, estimate, group_codes
from xface.statistics.metrics import METRICS, measure
from xface.statistics.thresholds import CRITERIA, choose_threshold

sk, scipy_stats = Later("sklearn.metrics"), Later("scipy.stats")

THRESHOLD = 0.45


def slow_auc(y, s):
    """The part of (positive, negative) pairs in the right order, ties half."""
    pairs = [(p > n) + 0.5 * (p == n) for p in s[y] for n in s[~y]]
    return sum(pairs) / len(pairs)


def slow_ap(y, s):
    """Sum over falling thresholds of (recall now - recall before) x precision now."""
    total = before = 0.0
    for cut in sorted(set(s), reverse=True):
        recall = sum(s[y] >= cut) / sum(y)
        total += (recall - before) * sum(s[y] >= cut) / sum(s >= cut)
        before = recall
    return total


def slow_eer(y, s):
    """Sweep the thresholds down; go straight from the last point before equality to the first after."""
    x, miss = 0.0, 1.0
    for cut in sorted(set(s), reverse=True):
        x_now, miss_now = np.mean(s[~y] >= cut), np.mean(s[y] < cut)
        if x_now >= miss_now:
            part = (miss - x) / ((miss - x) + (x_now - miss_now))
            return x + part * (x_now - x)
        x, miss = x_now, miss_now
    raise AssertionError("the lowest threshold misses nothing")


def slow_ece(y, s):
    total = 0.0
    for k in range(10):
        inside = [i for i in range(len(s)) if (k / 10 < s[i] <= (k + 1) / 10) or (k == 0 and s[i] == 0)]
        if inside:
            score, part = sum(s[i] for i in inside) / len(inside), sum(y[i] for i in inside) / len(inside)
            total += len(inside) / len(s) * abs(score - part)
    return total


def slow_cells(y, s):
    cells = {"tp": 0, "fn": 0, "fp": 0, "tn": 0}
    for truth, score in zip(y, s, strict=True):
        called = bool(score >= THRESHOLD)
        cells[("fn", "tp")[called] if truth else ("tn", "fp")[called]] += 1
    return cells


def ratio(of):
    def slow(y, s):
        return of(**slow_cells(y, s))

    return slow


SLOW = {
    "auc": slow_auc,
    "ap": slow_ap,
    "eer": slow_eer,
    "ece": slow_ece,
    "brier": lambda y, s: sum((b - a) ** 2 for a, b in zip(y, s, strict=True)) / len(y),
    "accuracy": ratio(lambda tp, fn, fp, tn: (tp + tn) / (tp + fn + fp + tn)),
    "balanced_accuracy": ratio(lambda tp, fn, fp, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2),
    "precision": ratio(lambda tp, fn, fp, tn: tp / (tp + fp)),
    "recall": ratio(lambda tp, fn, fp, tn: tp / (tp + fn)),
    "f1": ratio(lambda tp, fn, fp, tn: 2 / ((tp + fp) / tp + (tp + fn) / tp)),
    **{cell: (lambda y, s, cell=cell: slow_cells(y, s)[cell]) for cell in ("tp", "fn", "fp", "tn")},
}


def called(name):
    return lambda y, s, w: getattr(sk, name)(y, s >= THRESHOLD, sample_weight=w)


def sk_cell(row, column):
    return lambda y, s, w: sk.confusion_matrix(y, s >= THRESHOLD, sample_weight=w)[row, column]


def sk_calibration_error(y, s, w):
    from sklearn.calibration import calibration_curve

    repeated = np.repeat(np.arange(len(y)), w.astype(int))
    part, score = calibration_curve(y[repeated], s[repeated], n_bins=10)
    sizes = np.bincount(np.clip(np.ceil(s[repeated] * 10).astype(int) - 1, 0, 9))
    return (sizes[sizes > 0] * np.abs(part - score)).sum() / len(repeated)


SKLEARN = {
    "auc": lambda y, s, w: sk.roc_auc_score(y, s, sample_weight=w),
    "ap": lambda y, s, w: sk.average_precision_score(y, s, sample_weight=w),
    "brier": lambda y, s, w: sk.brier_score_loss(y, s, sample_weight=w),
    "ece": sk_calibration_error,
    "accuracy": called("accuracy_score"),
    "balanced_accuracy": called("balanced_accuracy_score"),
    "precision": called("precision_score"),
    "recall": called("recall_score"),
    "f1": called("f1_score"),
    "tn": sk_cell(0, 0),
    "fp": sk_cell(0, 1),
    "fn": sk_cell(1, 0),
    "tp": sk_cell(1, 1),
}


def scored(seed, count=60, digits=None):
    """Labels and scores with some skill; with few digits, many ties."""
    rng = np.random.default_rng(seed)
    y = rng.random(count) < 0.4
    s = np.clip(rng.normal(0.4 + 0.2 * y, 0.25), 0, 1)
    return y, s if digits is None else s.round(digits)


def value(name, y, s, weights=None):
    weighted = ours.Weighted(y, s, THRESHOLD, np.atleast_2d(np.ones(len(y)) if weights is None else weights))
    return METRICS[name].of(weighted)


def test_no_metric_is_left_out():
    assert set(SLOW) == set(METRICS)
    assert set(METRICS) - set(SKLEARN) == {"eer"}


@pytest.mark.parametrize("digits", [None, 1], ids=["few ties", "many ties"])
@pytest.mark.parametrize("name", METRICS)
def test_against_the_slow_definition(name, digits):
    for seed in range(10):
        y, s = scored(seed, digits=digits)
        assert value(name, y, s)[0] == pytest.approx(SLOW[name](y, s), abs=1e-12)


@pytest.mark.parametrize("digits", [None, 1], ids=["few ties", "many ties"])
@pytest.mark.parametrize("name", SKLEARN)
def test_against_scikit_learn_with_weights(name, digits):
    rng = np.random.default_rng(1)
    y, s = scored(3, digits=digits)
    weights = rng.integers(0, 4, (5, len(y))).astype(float)
    expected = [SKLEARN[name](y, s, row) for row in weights]
    assert value(name, y, s, weights) == pytest.approx(expected, abs=1e-12)


def test_equal_error_rate_against_scikit_learns_curve():
    y, s = scored(5, 400)
    fpr, tpr, _ = sk.roc_curve(y, s, drop_intermediate=False)
    grid = np.linspace(0, 1, 200_001)
    crossing = grid[np.argmin(np.abs(np.interp(grid, fpr, tpr) + grid - 1))]
    assert value("eer", y, s)[0] == pytest.approx(crossing, abs=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repetitions(name):
    y, s = scored(7, digits=2)
    weights = np.random.default_rng(2).integers(0, 4, len(y))
    repeated = np.repeat(np.arange(len(y)), weights)
    assert value(name, y, s, weights.astype(float)) == pytest.approx(value(name, y[repeated], s[repeated]))


def test_perfect_useless_and_reversed_detectors():
    y = np.array([True] * 6 + [False] * 4)
    assert [value(name, y, y.astype(float))[0] for name in ("auc", "ap", "eer", "ece")] == [1, 1, 0, 0]
    flat = np.full(10, 0.3)
    assert [value(name, y, flat)[0] for name in ("auc", "ap", "eer")] == pytest.approx([0.5, 0.6, 0.5])
    assert [value(name, y, 1.0 - y)[0] for name in ("auc", "eer")] == [0, 1]


UNDEFINED = {
    "positives only": ([1, 1, 1], [0.9, 0.2, 0.6], {"auc", "ap", "eer", "balanced_accuracy"}),
    "negatives only": ([0, 0, 0], [0.9, 0.2, 0.6], {"auc", "ap", "eer", "balanced_accuracy", "recall"}),
    "no positive call": ([1, 0, 0], [0.1, 0.2, 0.3], {"precision"}),
    "neither": ([0, 0], [0.1, 0.2], {"auc", "ap", "eer", "balanced_accuracy", "recall", "precision", "f1"}),
    "nothing": ([], [], set(METRICS) - {"tp", "fn", "fp", "tn"}),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_undefined_is_none_and_never_zero(case):
    labels, scores, undefined = UNDEFINED[case]
    found = measure(labels, scores)
    assert {name for name in found if found[name].value is None} == undefined
    assert all(found[name] == Estimate(None) for name in undefined)


def test_a_score_at_the_threshold_is_a_positive_call():
    assert measure([True], [0.5], 0.5, metrics=["recall"])["recall"].value == 1
    assert measure([True], [0.5], 0.5000001, metrics=["recall"])["recall"].value == 0


@pytest.mark.parametrize(
    ("labels", "scores", "groups"),
    [
        ([1, 0], [0.5], None),
        ([1], [1.5], None),
        ([1], [float("nan")], None),
        ([[1]], [[0.5]], None),
        ([1, 0], [0.1, 0.2], ["a"]),
    ],
)
def test_wrong_arrays_are_refused(labels, scores, groups):
    with pytest.raises(UsageError):
        measure(labels, scores, groups=groups)


def test_an_unknown_metric_is_refused():
    with pytest.raises(UnknownNameError, match="accuracy"):
        measure([1, 0], [0.5, 0.4], metrics=["acuracy"])


@pytest.mark.parametrize("name", [*METRICS, *CRITERIA])
def test_every_metric_and_criterion_is_documented(name):
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text.partition("## How good is a detector?")[2]


class TestGroups:
    def test_codes(self):
        assert group_codes(["", ""], 2).tolist() == [0, 1]
        assert group_codes(None, 3).tolist() == [0, 1, 2]
        assert group_codes(["v2", "v1", "v2"], 3).tolist() == [1, 0, 1]
        assert group_codes([], 0).tolist() == []

    def test_a_row_without_a_group_is_alone(self):
        codes = group_codes(["", "b", "", "a", "b", ""], 6).tolist()
        assert codes[1] == codes[4]
        assert len(set(codes)) == 5
        assert set(codes) == set(range(5))


def grouped(rng, groups=60, frames=10, shift=0.8, between=0.9, within=0.5):
    """Videos of one class each, whose frames share a video effect; scores and their true AUC.

    A positive minus a negative frame is normal with mean 2 shift and variance 2 (between^2 + within^2).
    """
    y = np.repeat(rng.permutation(np.arange(groups) % 2 == 0), frames)
    effect = np.repeat(rng.normal(0, between, groups), frames)
    z = np.where(y, shift, -shift) + effect + rng.normal(0, within, groups * frames)
    truth = NormalDist().cdf(2 * shift / sqrt(2 * (between**2 + within**2)))
    names = np.repeat([f"video {i}" for i in range(groups)], frames)
    return y, 1 / (1 + np.exp(-z)), names, truth


class TestIntervals:
    def test_they_cover_the_truth_and_the_frame_level_ones_do_not(self):
        rng, hits = np.random.default_rng(0), {"groups": 0, "frames": 0}
        for seed in range(200):
            y, s, names, truth = grouped(rng)
            for which, groups in (("groups", names), ("frames", None)):
                found = measure(y, s, groups=groups, metrics=["auc"], resamples=300, seed=seed)["auc"]
                hits[which] += found.low <= truth <= found.high
        assert 0.90 <= hits["groups"] / 200 <= 0.99
        assert hits["frames"] / 200 < 0.65

    def test_those_of_the_calibration_error_are_mirrored(self):
        """Percentiles never reach the true error of a calibrated detector: resampling adds to the bias."""
        rng = np.random.default_rng(4)

        def hits(power):
            def draw(count):
                s = rng.random(count)
                return rng.random(count) < s**power, s

            truth, found = value("ece", *draw(400_000))[0], {True: 0, False: 0}
            for seed in range(100):
                y, s = draw(600)
                for reverse in found:
                    of = lambda w, y=y, s=s: ours.calibration_error(y, s, w)[None]  # noqa: E731
                    [one] = estimate(of, None, 600, 200, seed, [reverse])
                    found[reverse] += max(one.low, 0) <= truth <= one.high
            return found

        assert METRICS["ece"].reverse
        assert hits(power=1.5)[True] >= 86
        calibrated = hits(power=1.0)
        assert calibrated[False] == 0
        assert calibrated[True] > 50

    def test_they_are_scipys(self):
        """The percentile interval of scipy's own bootstrap of a mean, with the same draws."""
        rows = np.random.default_rng(3).random(50)
        [found] = estimate(lambda w: (w @ rows / w.sum(axis=1))[None], None, 50, 999, 7)
        expected = scipy_stats.bootstrap(
            (rows,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(7)
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx(tuple(expected))

    def test_repeating_every_frame_changes_nothing(self):
        y, s, names, _ = grouped(np.random.default_rng(1), groups=20)
        once = measure(y, s, groups=names, resamples=200)
        thrice = measure(np.repeat(y, 3), np.repeat(s, 3), groups=np.repeat(names, 3), resamples=200)
        for name in METRICS:
            factor = 3 if METRICS[name].count else 1
            for field in fields(Estimate):
                expected = factor * getattr(once[name], field.name)
                assert getattr(thrice[name], field.name) == pytest.approx(expected, abs=1e-12)

    def test_without_groups_repetition_narrows_them(self):
        y, s, _, _ = grouped(np.random.default_rng(1), groups=20)
        once, many = (
            measure(np.repeat(y, k), np.repeat(s, k), metrics=["auc"], resamples=300)["auc"] for k in (1, 4)
        )
        assert (many.high - many.low) == pytest.approx((once.high - once.low) / 2, rel=0.2)

    def test_the_order_of_rows_does_not_matter(self):
        rng = np.random.default_rng(1)
        y, s, names, _ = grouped(rng, groups=20)
        order = rng.permutation(len(y))
        first = measure(y, s, groups=names, resamples=200)
        again = measure(y[order], s[order], groups=names[order], resamples=200)
        for name in METRICS:
            assert again[name].to_json() == pytest.approx(first[name].to_json(), abs=1e-12)

    def test_the_seed_decides(self):
        y, s = scored(1)
        assert measure(y, s, seed=1) == measure(y, s, seed=1) != measure(y, s, seed=2)

    def test_few_groups_give_none(self):
        y, s, names, _ = grouped(np.random.default_rng(1), groups=LEAST_GROUPS - 1)
        found = measure(y, s, groups=names)["auc"]
        assert (found.low, found.high) == (None, None)
        assert isclose(found.value, slow_auc(y, s))

    def test_agreeing_resamples_give_none(self):
        """Fifty of fifty right is no proof of an accuracy of exactly 1."""
        y = np.arange(50) % 2 == 0
        assert measure(y, y.astype(float), metrics=["accuracy"])["accuracy"] == Estimate(1.0)

    def test_a_metric_that_most_resamples_lack_has_none(self):
        y = np.arange(40) == 0  # a third of the resamples are without the only positive
        s = np.linspace(0.9, 0.1, 40)
        found = measure(y, s, metrics=["auc", "accuracy"])
        assert found["auc"] == Estimate(1.0)
        assert found["accuracy"].low is not None


class TestThresholds:
    @pytest.mark.parametrize("digits", [None, 1], ids=["few ties", "many ties"])
    @pytest.mark.parametrize("name", ["balanced_accuracy", "accuracy", "f1"])
    def test_no_other_is_better(self, name, digits):
        of = {
            "balanced_accuracy": sk.balanced_accuracy_score,
            "accuracy": sk.accuracy_score,
            "f1": sk.f1_score,
        }
        for seed in range(3):
            y, s = scored(seed, digits=digits)
            chosen = choose_threshold(y, s, name)
            best = max(of[name](y, s >= cut) for cut in [*s, *(s + 1e-9)])
            assert of[name](y, s >= chosen) >= best - 1e-12

    def test_eer_balances_the_errors(self):
        y, s = scored(2, 400)
        cut = choose_threshold(y, s, "eer")
        apart = abs(np.mean(s[~y] >= cut) - np.mean(s[y] < cut))
        assert apart == min(abs(np.mean(s[~y] >= c) - np.mean(s[y] < c)) for c in s)

    def test_of_equals_the_nearest_to_one_half(self):
        assert choose_threshold([1, 0], [0.9, 0.2]) == pytest.approx(0.55)
        assert choose_threshold([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]) == pytest.approx(0.2)
        assert choose_threshold([0, 0, 0, 1], [1.0, 0.7, 0.6, 0.5], "accuracy") == pytest.approx(0.85)

    def test_one_class_is_refused(self):
        with pytest.raises(UsageError, match="both classes"):
            choose_threshold([1, 1], [0.5, 0.6])

    def test_an_unknown_criterion_is_refused(self):
        with pytest.raises(UnknownNameError, match="accuracy"):
            choose_threshold([1, 0], [0.5, 0.6], "acuracy")

    def test_where_it_comes_from(self):
        assert stated_threshold(0.2, 0.3) == Threshold(0.2, "as given")
        assert stated_threshold(0.0, 0.3).value == 0
        assert stated_threshold(None, 0.3).source == "the card's"
        assert stated_threshold(None, None) == Threshold(0.5, "default")
        with pytest.raises(UsageError):
            stated_threshold(1.5, None)
