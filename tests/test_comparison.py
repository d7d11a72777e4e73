"""Two runs compared, against counts by hand, scipy and statsmodels."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, chi2
from test_findings import REGIONS, tables

from xface.analysis.comparison import compare, matched, mcnemar_p
from xface.errors import UsageError


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
    found = compare((first, NO_REGIONS), (second, NO_REGIONS))
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
        "1 images are scored in the second run only",
        "1 images have another truth in the second run",
    ]


def test_runs_over_other_images_are_refused():
    other = small(["FP", "TN"], sha256=["x", "y"])
    with pytest.raises(UsageError, match="share no scored image"):
        compare((small(["FP", "TN"]), NO_REGIONS), (other, NO_REGIONS))


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
    found = compare((first, NO_REGIONS), (second, NO_REGIONS))
    assert found.p < 0.01
    assert found.group_p == pytest.approx(binomtest(7, 12).pvalue, abs=0.03)


def test_maps_of_an_outcome_are_compared():
    images, regions = tables(count=400, group=1)
    again, moved = images.copy(), regions.copy()
    moved.loc[moved["region"] == "nose", "lift"] += 0.5
    found = compare((images, regions), (again, moved))
    assert len(found.regions) == 4 * len(REGIONS)
    for row in found.regions:
        assert row.difference.value == pytest.approx(0.5 if row.region == "nose" else 0, abs=1e-9)
        mean = regions[regions["row"].isin(images["row"][images["outcome"] == row.outcome])]
        assert row.first.value == pytest.approx(mean[mean["region"] == row.region]["lift"].mean())
        assert row.n[0] == row.n[1] == (images["outcome"] == row.outcome).sum()
    assert (found.fixed, found.new, found.p) == ((), (), 1.0)
