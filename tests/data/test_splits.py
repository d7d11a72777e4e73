"""Splits keep together what they promise, meet their proportions, and depend on names and seed alone."""

import warnings

import numpy as np
import pandas as pd
import pytest

from xface.data import DataError, Samples, leakage, split
from xface.data.splits import LeakageWarning
from xface.errors import UnknownNameError, UsageError


def faces(count=200, groups=0, seed=0, real=0.5, folder="/set"):
    """Samples of random labels, in groups of random sizes if there are to be groups."""
    chance = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "path": [f"{folder}/face{n}.jpg" for n in range(count)],
            "label": np.where(chance.random(count) < real, "real", "fake"),
            "group": [f"g{n}" for n in chance.integers(groups, size=count)] if groups else [""] * count,
        }
    )
    return Samples(table)


def places(parts):
    return {path: name for name, part in parts.items() for path in part.paths}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "weights", [{"train": 8, "val": 2}, {"train": 0.7, "val": 0.3}, {"train": 3, "val": 1, "test": 1.5}]
)
def test_ratio_is_met_to_a_sample_in_every_class(seed, weights):
    samples = faces(157, seed=seed, real=0.3)
    parts = split(samples, weights, seed=seed)
    assert sorted(places(parts)) == sorted(samples.paths)
    for label, whole in samples.counts().items():
        for name, weight in weights.items():
            expected = whole * weight / sum(weights.values())
            assert abs(parts[name].counts()[label] - expected) < 1 + 1e-9, (label, name)


@pytest.mark.parametrize("seed", range(8))
def test_no_group_lies_in_two_splits_and_sizes_miss_by_less_than_a_group_per_stratum(seed):
    samples = faces(600, groups=90, seed=seed)
    parts = split(samples, {"train": 6, "val": 2, "test": 2}, by="group", seed=seed)
    groups = [set(part.column("group")) for part in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert not leakage(parts)
    largest = samples.table["group"].value_counts().max()
    for name, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        assert abs(len(parts[name]) - 600 * share) < 3 * largest  # three strata: real, fake, both


@pytest.mark.parametrize("by", ["sample", "group", "run"])
@pytest.mark.filterwarnings("ignore::xface.data.splits.LeakageWarning")
def test_order_of_rows_changes_nothing_and_the_seed_all(by):
    samples = faces(120, groups=40)
    shuffled = samples.select(np.random.default_rng(1).permutation(120))
    first, again = split(samples, by=by, seed=3), split(shuffled, by=by, seed=3)
    assert places(first) == places(again)
    assert list(first) == ["train", "val"]
    assert places(first) != places(split(samples, by=by, seed=4))
    order = {path: row for row, path in enumerate(samples.paths)}
    rows = [order[path] for path in first["train"].paths]
    assert rows == sorted(rows)


def test_moving_the_data_changes_no_split():
    here, there = split(faces(folder="/here")), split(faces(folder="/elsewhere/far"))
    assert [path.rsplit("/")[-1] for path in here["val"].paths] == [
        path.rsplit("/")[-1] for path in there["val"].paths
    ]


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_runs_of_consecutive_files_stay_together(size):
    samples = faces(103).select(np.random.default_rng(0).permutation(103))
    found = places(split(samples, by="run", group_size=size, seed=2))
    for start in range(0, 103, size):  # face9 comes before face10
        assert len({found[f"/set/face{n}.jpg"] for n in range(start, min(start + size, 103))}) == 1
    changes = sum(found[f"/set/face{n}.jpg"] != found[f"/set/face{n + 1}.jpg"] for n in range(102))
    assert changes > 2  # one block of files would give at most two


def test_runs_end_with_their_folder():
    both = pd.concat([faces(7, folder="/a").table, faces(7, folder="/b").table])
    parts = split(Samples(both), {"train": 1, "val": 1}, by="run", group_size=100)
    assert {frozenset(path[:3] for path in part.paths) for part in parts.values()} == {
        frozenset({"/a/"}), frozenset({"/b/"}),
    }  # fmt: skip


def test_leakage_is_counted_and_warned_of():
    table = pd.DataFrame({"path": list("abcdef"), "label": "real", "group": ["1", "1", "2", "2", "3", ""]})
    samples = Samples(table)
    parts = {"train": samples.select([0, 2, 3]), "val": samples.select([1, 4, 5])}
    found = leakage(parts)
    assert (found.groups, found.torn) == (2, 1)  # group 3 and f are alone
    with pytest.warns(LeakageWarning, match=r"\d+ of 40 groups are torn apart"):
        parts = split(faces(400, groups=40))
    assert leakage(parts).torn > 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(faces(400))
        split(faces(400, groups=40), by="group")


def test_pairs_are_groups_where_there_is_no_other():
    count = 40
    table = pd.DataFrame(
        {
            "path": [f"/{kind}{n}" for n in range(count) for kind in ("real", "fake")],
            "pair": [f"/{kind}{n}" for n in range(count) for kind in ("fake", "real")],
            "label": ["real", "fake"] * count,
        }
    )
    parts = split(Samples(table), by="group")
    assert all(set(part.paths) == set(part.column("pair")) for part in parts.values())
    assert {name: len(part) for name, part in parts.items()} == {"train": 64, "val": 16}


def test_several_fakes_of_one_face_stay_together():
    made = {"swap": "real", "real": "swap", "gan": "real"}
    rows = [(f"/{kind}{n}", "real" if kind == "real" else "fake", f"/{of}{n}")
            for n in range(40) for kind, of in made.items()]  # fmt: skip
    samples = Samples(pd.DataFrame(rows, columns=["path", "label", "pair"]))
    parts = split(samples, by="group")
    assert leakage(parts).groups == 40
    assert leakage(parts).torn == 0
    apart = np.array(["gan" in path for path in samples.paths])
    assert leakage({"train": samples.select(~apart), "val": samples.select(apart)}).torn == 40


def test_splits_of_the_manifest():
    table = pd.DataFrame({"path": list("abcd"), "label": "real", "split": ["test", "odd", "train", "val"]})
    parts = split(Samples(table), by="manifest")
    assert {name: part.paths for name, part in parts.items()} == {
        "train": ["c"], "val": ["d"], "test": ["a"], "odd": ["b"],
    }  # fmt: skip
    assert list(parts) == ["train", "val", "test", "odd"]
    with pytest.raises(DataError, match="1 of 4 samples have no split"):
        split(Samples(table.assign(split=["train", "", "val", "val"])), by="manifest")
    with pytest.raises(UsageError, match="give none"):
        split(Samples(table), {"train": 1}, by="manifest")


def test_wrong_calls():
    with pytest.raises(UnknownNameError, match="did you mean 'group'"):
        split(faces(), by="groups")
    with pytest.raises(DataError, match="no groups to split by"):
        split(faces(), by="group")
    with pytest.raises(DataError, match="nothing is left for val"):
        split(faces(30, groups=1), by="group")
    with pytest.raises(UsageError, match="group_size 0"):
        split(faces(), by="run", group_size=0)
    for weights in ({"train": 0, "val": 1}, {"train": -1, "val": 2}, {"train": float("nan")}):
        with pytest.raises(UsageError, match="positive numbers"):
            split(faces(), weights)
