"""Splits: samples divided into training, validation and test sets, and how honest the division is."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from xface.data.groups import groups
from xface.data.labelled_pictures import Samples
from xface.errors import DataError, UsageError
from xface.images.picture_files import natural_order
from xface.registry import Registry

EIGHT_TO_TWO = {"train": 8.0, "val": 2.0}
ORDER = ("train", "val", "test")

Units = list[list[int]]
"""Rows that stay together."""


class LeakageWarning(UserWarning):
    """Samples that belong together lie in different splits, so scores will flatter."""


@dataclass(frozen=True)
class Leakage:
    """How many groups of two or more samples there are, and how many of them lie in several splits.

    Example:
        >>> str(Leakage(groups=10, torn=4))
        '4 of 10 groups are torn apart: ... split by group to keep them together'
        >>> bool(Leakage(groups=10, torn=0))
        False
    """

    groups: int
    torn: int

    def __bool__(self) -> bool:
        return self.torn > 0

    def __str__(self) -> str:
        return (
            f"{self.torn} of {self.groups} groups are torn apart: they lie in several splits, so that "
            "the network is tested on what it has seen (leakage); split by group to keep them together"
        )


def split(
    samples: Samples,
    proportions: Mapping[str, float] | None = None,
    by: str = "sample",
    group_size: int = 5,
    seed: int = 0,
) -> dict[str, Samples]:
    """Divide samples at random, in the given proportions in every class.

    The result depends on the seed and the files' names, not on the order of the rows. Units of one size meet
    the proportions to a unit in every class; otherwise they miss them by less than the largest.

    Args:
        samples: what to divide.
        proportions: the splits' names and weights, as {"train": 8, "val": 2}, the default, or {"train": 0.7,
            "val": 0.15, "test": 0.15}. Must be None for `by="manifest"`.
        by: what stays together. "sample": nothing. "group": samples of one group, see `xface.data.groups`.
            "run": runs of `group_size` consecutive files of a folder, in natural order of their names: files
            that were made one after another often share their origin. "manifest": the splits are those of the
            column `split`.
        group_size: the length of a run.
        seed: what decides the division.

    Returns:
        The samples of each split, by its name, in their former order.

    Warns:
        LeakageWarning: groups are torn apart; says how many.

    Raises:
        UnknownNameError: for another `by`.
        UsageError: proportions that are not positive, or a group_size below 1.
        DataError: there are no groups to split by, or too few for every split to get one.

    Example:
        >>> import pandas as pd
        >>> names = [f"/{n}.jpg" for n in range(20)]
        >>> faces = Samples(pd.DataFrame({"path": names, "label": ["real"] * 10 + ["fake"] * 10}))
        >>> {name: part.counts() for name, part in split(faces, {"train": 7, "val": 3}).items()}
        {'train': {'fake': 7, 'real': 7}, 'val': {'fake': 3, 'real': 3}}
    """
    if by == "manifest":
        if proportions is not None:
            raise UsageError("the manifest's own splits have their own proportions; give none")
        parts = _as_in_manifest(samples)
    else:
        units = UNITS[by](samples, group_size)
        parts = _divided(samples, units, _weights(proportions or EIGHT_TO_TWO), seed)
    if found := leakage(parts):
        warnings.warn(str(found), LeakageWarning, stacklevel=2)
    return parts


def leakage(parts: Mapping[str, Samples]) -> Leakage:
    """Count the groups, of two or more samples, that lie in several of the splits.

    A group is what `split` by group keeps together.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for name, found in zip(parts, _groups(*parts.values()), strict=True):
        for group in found:
            places[group].append(name)
    several = [names for names in places.values() if len(names) > 1]
    return Leakage(len(several), sum(len(set(names)) > 1 for names in several))


def shared_groups(first: Samples, second: Samples) -> int:
    """How many groups and pairs have samples in both, by the groups' names, whatever their source.

    Example:
        >>> import pandas as pd
        >>> seen = Samples(pd.DataFrame({"path": ["/a", "/b"], "label": ["real"] * 2, "group": ["1", "2"]}))
        >>> new = Samples(pd.DataFrame({"path": ["/c", "/d"], "label": ["real"] * 2, "group": ["2", "2"]}))
        >>> shared_groups(seen, new)
        1
    """
    names = map(set, _groups(*(Samples(part.table.assign(source="")) for part in (first, second))))
    return len(set.intersection(*names))


def _groups(*parts: Samples) -> list[list[str]]:
    """What each sample of each part belongs to: its group (see `xface.data.groups`), else itself."""
    paths, own, pairs, sources = (
        [cell for part in parts for cell in part.column(name)] for name in ("path", "group", "pair", "source")
    )
    named = [f"{source}\n{group}" if group else "" for group, source in zip(own, sources, strict=True)]
    found = [group or path for group, path in zip(groups(paths, named, pairs), paths, strict=True)]
    ends = list(accumulate(map(len, parts), initial=0))
    return [found[start:end] for start, end in pairwise(ends)]


def _collected(keys: Sequence[str]) -> Units:
    units: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        units[key].append(row)
    return list(units.values())


def _by_sample(samples: Samples, group_size: int) -> Units:
    return [[row] for row in range(len(samples))]


def _by_group(samples: Samples, group_size: int) -> Units:
    if not any(samples.column("group")) and not any(samples.column("pair")):
        raise DataError(
            "the samples have no groups to split by: the column 'group' is absent or empty; fill it, or "
            "split by runs of consecutive files (by: run, group_size: 5)"
        )
    return _collected(_groups(samples)[0])


def _by_run(samples: Samples, group_size: int) -> Units:
    if group_size < 1:
        raise UsageError(f"group_size {group_size} must be 1 or more files")
    paths = samples.paths
    folders = _collected([os.path.dirname(path) for path in paths])
    ordered = [sorted(rows, key=lambda row: natural_order(paths[row])) for rows in folders]
    return [rows[i : i + group_size] for rows in ordered for i in range(0, len(rows), group_size)]


UNITS: Registry[Callable[[Samples, int], Units]] = Registry("way to split")
UNITS.add("sample", _by_sample)
UNITS.add("group", _by_group)
UNITS.add("run", _by_run)


def _as_in_manifest(samples: Samples) -> dict[str, Samples]:
    names = samples.column("split")
    if not all(names):
        raise DataError(
            f"{names.count('')} of {len(names)} samples have no split of their own; fill the column 'split', "
            "or split by sample, group or run"
        )
    ordered = sorted(set(names), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: samples.of_split(name) for name in ordered}


def _weights(proportions: Mapping[str, float]) -> dict[str, float]:
    total = sum(proportions.values())
    if not proportions or not all(0 < weight < float("inf") for weight in proportions.values()):
        raise UsageError(f"proportions {dict(proportions)} must be positive numbers, one for each split")
    return {name: weight / total for name, weight in proportions.items()}


def _divided(samples: Samples, units: Units, weights: dict[str, float], seed: int) -> dict[str, Samples]:
    """Fill the splits stratum by stratum; a stratum is the units with the same set of classes."""
    labels, order = samples.labels, _canonical(samples)
    strata: dict[tuple[str, ...], Units] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: min(order[row] for row in unit)):
        strata[tuple(sorted({labels[row] for row in unit}))].append(unit)
    rng = np.random.default_rng(seed)
    places = np.full(len(samples), -1)
    for _, stratum in sorted(strata.items()):
        ranks = np.argsort(rng.random(len(stratum)), kind="stable")
        _fill([stratum[rank] for rank in ranks], list(weights.values()), places)
    if empty := [name for place, name in enumerate(weights) if not (places == place).any()]:
        raise DataError(
            f"nothing is left for {', '.join(empty)}: {len(units)} units that stay together cannot fill "
            f"{len(weights)} splits in these proportions; give more data or other proportions"
        )
    return {name: samples.select(places == place) for place, name in enumerate(weights)}


def _canonical(samples: Samples) -> list[int]:
    """The rank of each row by source and path, which the order of rows doesn't change."""
    keys = list(zip(samples.column("source"), samples.paths, strict=True))
    ranked = {key: rank for rank, key in enumerate(sorted(keys))}
    return [ranked[key] for key in keys]


def _fill(stratum: Units, weights: Sequence[float], places: np.ndarray) -> None:
    """Give each unit to the split that lacks most of its share of the stratum."""
    lacking = np.array(weights) * sum(map(len, stratum))
    for unit in stratum:
        place = int(lacking.argmax())
        places[unit] = place
        lacking[place] -= len(unit)
