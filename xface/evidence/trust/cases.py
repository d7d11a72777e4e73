"""Cases: the forged pictures that answers are asked about, and what is known of each."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xface.data import Samples
from xface.data.groups import groups
from xface.errors import DataError, UnknownNameError, UsageError
from xface.files.paths import as_utf8
from xface.images.pictures import EXTENSIONS
from xface.runs.trust import LeftOut

PAIR, GROUP = "pair", "group"
SEED = 0
"""Of the order of cases, of which `limit` takes the first, and of all else that is drawn for a case."""


@dataclass(frozen=True)
class Case:
    """A forged picture, the file of the real one that it was made from, and of its mask; "" for none.

    `made` says that `path` is a real picture, from which the forgery is yet to be made by self-blending.
    `place` is the case's place among those of its kind, `seed` that of what is drawn for it.
    """

    path: str
    group: str
    counterpart: str = ""
    mask: str = ""
    made: bool = False
    place: int = 0
    seed: int = 0

    @property
    def files(self) -> list[str]:
        """All files that it is read from."""
        return [path for path in (self.path, self.counterpart, self.mask) if path]


@dataclass(frozen=True, eq=False)
class Cases:
    """All cases, in a random order of which a larger limit takes more; and what was left out.

    `masks` says where masks come from: `files`, `pairs`, `self_blended`, or several with commas between.
    """

    cases: tuple[Case, ...]
    masks: str
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def pairs(self) -> int:
        """How many have a real picture that they were made from."""
        return sum(bool(case.counterpart) for case in self.cases)

    @property
    def asks_of_made(self) -> bool:
        """Whether there are forgeries made here alone, so that all checks ask of these."""
        return all(case.made for case in self.cases)


def find_cases(
    samples: Samples,
    positive: str,
    pairs: str | None = None,
    masks: Path | None = None,
    limit: int | None = None,
    group_by: str = GROUP,
) -> Cases:
    """The cases of a labelled set.

    Each forged picture is one, with the real one that it was made from where the data names it. Where it
    names none at all, real pictures become pairs by self-blending.

    Args:
        samples: with their labels as the detector's classes.
        positive: the class of forgeries.
        pairs: the column that names counterparts: by their path, or by a name that both share.
            None for `pair`, if there is one.
        masks: a folder with a mask for each forged picture, of its name or its path in the data.
        limit: at most so many forged pictures, and so many made ones.
        group_by: the column that groups dependent pictures.

    Raises:
        UnknownNameError: there is no such column. DataError: there is no picture to ask about, no mask, or no
            pair. UsageError: a limit of 0.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} pictures leaves none; give 1 or more")
    for column in (pairs, None if group_by == GROUP else group_by):
        if column is not None and column not in samples.table:
            raise UnknownNameError("column", column, [str(name) for name in samples.table])
    counterparts = _counterparts(samples, positive, pairs or PAIR)
    if pairs is not None and not counterparts:
        raise DataError(
            f"the column {pairs!r} names no real picture for any forged one; it must hold its path, or a "
            "name that both share and no other real picture has"
        )
    grouped = groups(samples.paths, samples.column(group_by), _links(samples, counterparts))
    rows = list(zip(samples.paths, samples.labels, grouped, strict=True))
    forged = [
        Case(path, group, counterparts.get(path, "")) for path, label, group in rows if label == positive
    ]
    real = (
        []
        if counterparts
        else [Case(path, group, path, made=True) for path, label, group in rows if label != positive]
    )
    kinds = [_drawn(kind, limit) for kind in (forged, real)]
    found = _with_masks(kinds[0], masks) + kinds[1]
    if not found:
        raise DataError("there is no picture to ask about: no forged one, and no real one to make one from")
    named = bool(counterparts) or any(samples.column(PAIR))
    lacking = [*_unpaired(kinds[0], named), *_unmasked(found, masks)]
    return Cases(tuple(found), _origin(found), tuple(lacking))


def _counterparts(samples: Samples, positive: str, column: str) -> dict[str, str]:
    """The real picture of each forged one that has one, by path."""
    label = dict(zip(samples.paths, samples.labels, strict=True))
    values = samples.column(column)
    reals: dict[str, list[str]] = defaultdict(list)
    for path, value in zip(samples.paths, values, strict=True):
        if value and label[path] != positive:
            reals[value].append(path)
    found = {}
    for path, value in zip(samples.paths, values, strict=True):
        if not value or label[path] != positive:
            continue
        named = value if value in label else os.path.join(os.path.dirname(path), value)
        if named in label:
            if label[named] != positive:
                found[path] = named
        elif len(reals[value]) == 1:
            found[path] = reals[value][0]
        elif os.path.isfile(value):
            found[path] = value
    return found


def _links(samples: Samples, counterparts: dict[str, str]) -> list[str]:
    own = samples.column(PAIR)
    return [counterparts.get(path, pair) for path, pair in zip(samples.paths, own, strict=True)]


def _drawn(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """Cases of one kind in random order, by their paths and a fixed seed, and the first of them."""
    ordered = sorted(cases, key=lambda case: case.path)
    chosen = np.random.default_rng(SEED).permutation(len(ordered))[:limit]
    return [replace(ordered[k], place=place, seed=int(k)) for place, k in enumerate(chosen)]


def _with_masks(cases: Sequence[Case], folder: Path | None) -> list[Case]:
    if folder is None:
        return list(cases)
    if not folder.is_dir():
        raise DataError(f"'{folder}' is no folder of masks; give one with a picture for each forged picture")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[path.stem].append(path)
    found = [replace(case, mask=_mask_of(case.path, by_name, folder)) for case in cases]
    if not any(case.mask for case in found):
        raise DataError(
            f"'{folder}' has no mask for any of the {len(cases):,} forged pictures; name each as its picture"
        )
    return found


def _mask_of(path: str, by_name: dict[str, list[Path]], folder: Path) -> str:
    """The mask of the picture's name; of several, the one whose folders agree with the picture's."""
    picture = Path(path)
    near = [mask for mask in by_name[picture.stem] if _ends_alike(mask.relative_to(folder), picture)]
    chosen = near if len(near) == 1 else by_name[picture.stem]
    return str(chosen[0]) if len(chosen) == 1 else ""


def _ends_alike(mask: Path, picture: Path) -> bool:
    parents = mask.parent.parts
    return not parents or picture.parent.parts[-len(parents) :] == parents


def _origin(cases: Iterable[Case]) -> str:
    kinds = {"files": lambda case: case.mask, "self_blended": lambda case: case.made,
             "pairs": lambda case: case.counterpart and not case.mask and not case.made}  # fmt: skip
    cases = list(cases)
    return ",".join(name for name, holds in kinds.items() if any(map(holds, cases)))


def _unpaired(forged: Sequence[Case], paired: bool) -> Iterable[LeftOut]:
    """Forged pictures without a real one, where the data means to name such."""
    lacking = [case for case in forged if not case.counterpart]
    if paired and lacking:
        reason = "the data names no real picture that it was made from, or none that is there"
        yield _left_out("pair", reason, lacking)


def _unmasked(cases: Sequence[Case], folder: Path | None) -> Iterable[LeftOut]:
    """Forged pictures of which nothing says what is manipulated, though masks are given."""
    lacking = [case for case in cases if not (case.made or case.mask or case.counterpart)]
    if folder is not None and lacking:
        yield _left_out("mask", f"'{folder}' has no picture of its name, or several", lacking)


def _left_out(what: str, reason: str, cases: Sequence[Case]) -> LeftOut:
    return LeftOut(what=what, reason=reason, count=len(cases), example=as_utf8(cases[0].path))
