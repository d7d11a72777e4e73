"""Slices, clusters and the regression, on planted data and against other implementations."""

import numpy as np
import pytest
from simulated_frames import frames
from speed import Later

from xface.statistics.clusters import cluster, find_clusters
from xface.statistics.regression import jackknife_errors, regress
from xface.statistics.slices import candidates, find_slices, members

stats, sm, linear_model = Later("scipy.stats"), Later("statsmodels.api"), Later("sklearn.linear_model")

NAMES = ["brightness", "yaw", "sharpness"]


def corner(count=1200, seed=0):
    """Wrong more often where it is dark and turned to the left."""
    rng = np.random.default_rng(seed)
    values = rng.random((count, 3))
    wrong = rng.random(count) < 0.1 + 0.6 * ((values[:, 0] < 0.25) & (values[:, 1] > 0.75))
    return values, wrong, np.arange(count) // 3


def test_the_planted_corner_is_found_and_only_once():
    values, wrong, codes = corner()
    worst, *others = find_slices(NAMES, values, wrong, codes)
    assert [(c.attribute, c.low is None, c.high is None) for c in worst.conditions] == [
        ("brightness", True, False),
        ("yaw", False, True),
    ]
    inside = members(worst, NAMES, values)
    assert (worst.n, worst.errors) == (inside.sum(), wrong[inside].sum())
    assert worst.groups == len(np.unique(codes[inside]))
    assert worst.rate.value == pytest.approx(wrong[inside].mean())
    assert worst.rest.value == pytest.approx(wrong[~inside].mean())
    assert worst.rate.low < 0.7 < worst.rate.high
    assert worst.finding
    assert [each.finding for each in others] == [False]


def test_every_image_is_in_one_bin_of_an_attribute_or_undefined():
    values = np.column_stack([np.random.default_rng(1).normal(size=101), np.repeat([0.0, 1.0], [90, 11])])
    values[::10, 0] = np.nan
    conditions, inside = candidates(["yaw", "exposure"], values)
    single = [k for k, each in enumerate(conditions) if len(each) == 1 and each[0].attribute == "yaw"]
    assert len(single) == 4
    assert inside[:, single].sum(axis=1).tolist() == np.isfinite(values[:, 0]).astype(int).tolist()
    assert [each[0].words for each in conditions if len(each) == 1][4:] == [
        "exposure at most 0",
        "exposure above 0",
    ]
    assert len(conditions) == 4 + 2 + 4 * 2
    for each, column in zip(conditions, inside.T, strict=True):
        shell = type("Shell", (), {"conditions": each})()
        assert members(shell, ["yaw", "exposure"], values).tolist() == column.tolist()


def test_small_slices_and_slices_of_few_groups_are_not_looked_at():
    values, wrong, _ = corner(100)
    assert find_slices(NAMES, values, wrong, np.arange(100) % 8) == ()
    assert all(each.n >= 30 for each in find_slices(NAMES, values, wrong, np.arange(100)))
    assert find_slices(NAMES, values, np.zeros(100, bool), np.arange(100)) == ()
    assert find_slices([], values[:, :0], wrong, np.arange(100)) == ()


def test_slices_are_seldom_found_where_there_are_none():
    found = 0
    for seed in range(60):
        values, wrong, codes = frames(seed, columns=3)
        found += any(each.finding for each in find_slices(NAMES, values, wrong, codes, 199))
    assert found <= stats.binom.ppf(0.999, 60, 0.05)


def blobs(sizes, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[8, 1, 1, 1], [1, 8, 1, 1], [1, 1, 8, 1]])
    return np.concatenate([rng.dirichlet(10 * c, n) for c, n in zip(centres, sizes, strict=False)])


def test_planted_groups_are_found_the_largest_first():
    labels = cluster(blobs([20, 60, 40]))
    assert labels.tolist() == [2] * 20 + [0] * 60 + [1] * 40


def test_one_heap_is_one_group():
    assert not any(
        cluster(np.random.default_rng(seed).dirichlet([20, 15, 10, 10], 80)).any() for seed in range(5)
    )
    assert not cluster(blobs([6, 6])).any()  # too few to tell
    assert not cluster(np.full((30, 4), 0.25)).any()
    assert cluster(np.empty((0, 4))).tolist() == []


def test_clusters_have_their_rows_means_and_most_typical_error():
    shares = blobs([30, 30])
    shares[5] = np.nan
    lifts = shares * [1, 2, 3, 4]
    regions = ["mouth", "nose", "jaw", "background"]
    rows = np.arange(60) * 10
    found = find_clusters(regions, shares, lifts, rows, "FP", "gradcam", "layer4")
    assert [each.size for each in found] == [30, 29]
    assert 50 not in found[1].members
    for each in found:
        inside = np.isin(rows, each.members)
        assert list(each.lifts.values()) == pytest.approx(lifts[inside].mean(axis=0))
        points = np.sqrt(shares[inside])
        sums = ((points[:, None] - points[None]) ** 2).sum(axis=(1, 2))
        assert each.medoid == rows[inside][np.argmin(sums)]
    assert find_clusters(regions, shares[:0], lifts[:0], rows[:0], "FP", "gradcam", "") == ()


def logistic(count=600, seed=0, columns=3):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, columns)) * [1, 10, 100][:columns] + 5
    chance = 1 / (1 + np.exp(1 + (values[:, 0] - 5)))
    return values, rng.random(count) < chance, np.arange(count)


def test_odds_ratios_are_those_of_scikit_learn_per_standard_deviation():
    values, wrong, codes = logistic()
    found = regress(NAMES, values, wrong, codes)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    expected = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(scaled, wrong)
    assert [row.odds_ratio.value for row in found.rows] == pytest.approx(np.exp(expected.coef_[0]), rel=1e-4)
    assert [row.finding for row in found.rows] == [True, False, False]
    assert found.rows[0].odds_ratio.low < 1 / np.e < found.rows[0].odds_ratio.high


def test_errors_are_close_to_the_sandwich_over_many_groups_and_larger_over_few():
    for groups, count, low, high in ((3000, 1, 0.99, 1.02), (40, 20, 1.05, 1.5)):
        values, wrong, codes = frames(0, groups, count, columns=5, icc=0.99)
        design = sm.add_constant(values)
        fit = sm.Logit(wrong, design).fit(disp=0)
        sandwich = sm.Logit(wrong, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": codes}).bse
        ratio = jackknife_errors(design, wrong - fit.predict(), codes) / sandwich
        assert low < ratio.mean() < high


def test_the_jackknife_is_close_to_refits_without_each_group():
    values, wrong, codes = logistic(400)
    codes = codes // 20
    design = sm.add_constant((values - values.mean(axis=0)) / values.std(axis=0))
    fit = sm.Logit(wrong, design).fit(disp=0)
    refits = np.array([sm.Logit(wrong[codes != g], design[codes != g]).fit(disp=0).params for g in range(20)])
    expected = np.sqrt(19 / 20 * ((refits - fit.params) ** 2).sum(axis=0))
    assert jackknife_errors(design, wrong - fit.predict(), codes) == pytest.approx(expected, rel=0.05)


def test_the_regression_seldom_finds_what_is_not_there():
    """60 sets of 60 videos; with the sandwich over groups it finds something in about 16 %."""
    names, found = [str(k) for k in range(12)], 0
    for seed in range(60):
        values, wrong, codes = frames(seed, columns=12)
        found += any(row.finding for row in regress(names, values, wrong, codes).rows)
    assert found <= stats.binom.ppf(0.99, 60, 0.05)


def test_what_cannot_be_fitted_is_left_out_with_a_note():
    values, wrong, codes = logistic()
    odd = np.column_stack([values, values[:, 0] * 3 + 1, np.ones(600), np.full(600, np.nan)])
    odd[:7, 1] = np.nan
    found = regress([*NAMES, "contrast", "exposure", "roll"], odd, wrong, codes)
    assert [row.attribute for row in found.rows] == NAMES
    assert found.n == 593
    for part in ("contrast: nearly determined", "exposure: constant", "roll: undefined", "7 images without"):
        assert part in found.note


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda v, w, c: (v, v[:, 0] > 5, c), "part"),
        (lambda v, w, c: (v, w, c % 9), "fewer than 10 groups"),
        (lambda v, w, c: (v, np.arange(600) < 12, c), "fewer than 5 errors"),
        (lambda v, w, c: (v * 0, w, c), "no attribute"),
        (lambda v, w, c: (v * np.nan, w, c), "no attribute"),
        (lambda v, w, c: (v[:0], w[:0], c[:0]), "fewer than 10 groups"),
    ],
    ids=["parted", "few groups", "few errors", "constant", "undefined", "empty"],
)
def test_what_is_not_fitted_is_said(change, note):
    found = regress(NAMES, *change(*logistic()))
    assert found.rows == ()
    assert note in found.note


def test_the_truth_takes_its_own_credit():
    rng = np.random.default_rng(0)
    truth = rng.random(900) < 0.5
    smooth = rng.normal(size=900) + 1.5 * truth  # forgeries are smoother, and missed more often
    wrong = rng.random(900) < np.where(truth, 0.4, 0.1)
    [alone] = regress(["sharpness"], smooth[:, None], wrong, np.arange(900)).rows
    beside = regress(["sharpness"], smooth[:, None], wrong, np.arange(900), truth)
    assert alone.finding
    assert not beside.rows[0].finding
    assert "true class is held constant" in beside.note
