"""Two runs compared, against counts by hand, scipy and statsmodels."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, chi2
from test_findings import REGIONS, tables

from xface.errors import UsageError
from xface.findings.comparison import ComparedRun, compare, matched, mcnemar_p


def small(outcomes, **columns):
    count = len(outcomes)
    return pd.DataFrame({
        "row": range(count), "image": [f"{i}.jpg" for i in range(count)], "group": "",
        "sha256": [f"hash{i}" for i in range(count)], "outcome": outcomes, **columns,
    })  # fmt: skip


NO_REGIONS = pd.DataFrame(
    {name: [] for name in ("row", "method", "layer", "status", "region", "lift", "share")}, dtype=object
)


def test_errors_are_fixed_new_or_still_there():
    first = small(["FP", "FP", "TN", "TP", "FN", "TN"])
    second = small(["TN", "FP", "FP", "FN", "TP", "TN"]).iloc[::-1].assign(row=range(6))
    found = compare(ComparedRun(first, NO_REGIONS), ComparedRun(second, NO_REGIONS))
    assert found.images == found.groups == 6
    assert found.errors == (3, 3)
    assert found.fixed == ((0, 5), (4, 1))
    assert found.still == ((1, 4),)
    assert found.new == ((2, 3), (3, 2))
    assert found.p == 1.0
    assert found.group_p is None
    assert "fewer than 10 groups have changed" in found.notes[-1]
    json.dumps(found.to_json(), allow_nan=False)


def test_images_are_known_by_content_else_by_path_and_what_is_not_shared_is_said():
    first = small(["FP", "TN", "TN", "TP", ""], sha256=["a", "a", "", "b", "c"])
    second = small(["TN", "FP", "TN", "TN", "TN"], sha256=["a", "a", "", "b", "c"])
    pairs, notes = matched(first, second)
    assert list(zip(pairs["row"], pairs["row_second"], strict=True)) == [(0, 0), (1, 1), (2, 2)]
    assert notes == [
        "left out: 1 image scored in the second run only",
        "left out: 1 image of another truth in the second run",
    ]


def test_runs_over_other_images_are_refused():
    other = small(["FP", "TN"], sha256=["x", "y"])
    with pytest.raises(UsageError, match="share no scored image"):
        compare(ComparedRun(small(["FP", "TN"]), NO_REGIONS), ComparedRun(other, NO_REGIONS))


def test_mcnemar_is_exact_for_few_and_chi_squared_for_many():
    assert mcnemar_p(7, 2) == pytest.approx(binomtest(7, 9).pvalue)
    assert mcnemar_p(60, 30) == pytest.approx(chi2.sf((60 - 30 - 1) ** 2 / 90, 1))
    assert mcnemar_p(0, 0) == 1.0


def test_groups_change_as_a_whole():
    """All 30 frames of 7 videos turn right, those of 5 wrong: many images, but hardly a change."""
    codes = np.repeat(np.arange(12), 30)
    groups = [f"v{code}" for code in codes]
    first = small(np.where(codes < 7, "FP", "TN"), group=groups)
    second = small(np.where(codes < 7, "TN", "FP"), group=groups)
    found = compare(ComparedRun(first, NO_REGIONS), ComparedRun(second, NO_REGIONS))
    assert found.p < 0.01
    assert found.group_p == pytest.approx(binomtest(7, 12).pvalue, abs=0.03)


def regions_moved(images, regions, seed=1):
    """The nose's lift half higher on average, the mouth's as it was on average, the rest as it was."""
    rng, moved = np.random.default_rng(seed), regions.copy()
    for region, mean in (("nose", 0.5), ("mouth", 0.0)):
        drawn = rng.normal(0, 1, len(images))
        moved.loc[moved["region"] == region, "lift"] += drawn - drawn.mean() + mean
    return moved


def test_regions_are_compared_image_by_image():
    images, regions = tables(count=400, group=1)
    moved = regions_moved(images, regions)
    moved.loc[(moved["row"] < 30) & (moved["region"] == "nose"), "status"] = "zero"
    found = compare(ComparedRun(images, regions), ComparedRun(images, moved))
    assert [row.region for row in found.regions] == list(REGIONS)
    rows = {row.region: row for row in found.regions}
    joined = regions.merge(moved[moved["status"] == "ok"], on=["row", "region"])
    gaps = (joined["lift_y"] - joined["lift_x"]).groupby(joined["region"]).mean()
    assert {name: row.difference.value for name, row in rows.items()} == pytest.approx(dict(gaps), abs=1e-9)
    assert [name for name, row in rows.items() if row.moved] == ["nose"]
    assert (rows["nose"].images, rows["nose"].groups, rows["mouth"].images) == (370, 370, 400)
    assert rows["nose"].difference.low < 0.5 < rows["nose"].difference.high
    assert (found.fixed, found.new, found.p) == ((), (), 1.0)
    json.dumps(found.to_json(), allow_nan=False)


def test_another_threshold_moves_no_map():
    images, regions = tables(count=400, group=1, mouth=2.0)
    truth = images["outcome"].isin(["TP", "FN"])
    called = images["score"] >= 0.3
    outcomes = np.select([truth & called, truth, called], ["TP", "FN", "FP"], "TN")
    manifest = {"settings": {"weights_sha256": "a"}, "kinds": [{"method": "gradcam", "layer": "layer4"}]}
    one = ComparedRun(images, regions, {**manifest, "threshold": {"value": 0.5}}, "one")
    other = ComparedRun(
        images.assign(outcome=outcomes), regions, {**manifest, "threshold": {"value": 0.3}}, "other"
    )
    found = compare(one, other)
    assert found.new
    assert not any(row.moved for row in found.regions)
    assert {(row.difference.low, row.difference.high) for row in found.regions} == {(0.0, 0.0)}
    assert [run["threshold"] for run in found.runs] == [0.5, 0.3]
    assert found.notes[0] == "both runs have the same weights"
    assert "different thresholds, 0.5 and 0.3" in found.notes[1]


def test_maps_that_one_run_lacks_are_named():
    images, regions = tables(count=60, group=1)
    kinds = [[{"method": "gradcam", "layer": layer}] for layer in ("layer3", "layer4")]
    first, second = (ComparedRun(images, regions, {"kinds": each}) for each in kinds)
    moved = regions.assign(layer="layer3")
    found = compare(replace(first, regions=moved), second)
    assert found.regions == ()
    assert "gradcam at layer3 in one and gradcam at layer4 in one only" in found.notes[0]
