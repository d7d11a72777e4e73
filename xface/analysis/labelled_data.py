"""Analysed data: the rows of a labelled set that a run covers, and what of them is not independent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xface.data import Samples, Vocabulary, read_samples
from xface.data.groups import groups
from xface.errors import UnknownNameError, UsageError

GROUP = "group"
SEED = 0
"""Of the images that `limit` draws."""

MAPPED = {
    "path": "which image it is",
    "label": "the truth itself",
    GROUP: "which images are not independent, so each value is one observation",
}
"""Columns of the data that have names of their own among a run's, and what they say."""


@dataclass(frozen=True, eq=False)
class AnalysedData:
    """Samples in the order of their rows, those of missing files among them.

    `sha256` is of the whole table's content as it was read, before `split` and `limit` chose from it.
    `group_by` is the column whose values are groups.
    """

    source: str
    samples: Samples = field(repr=False)
    sha256: str
    group_by: str = GROUP
    split: str | None = None
    limit: int | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def groups(self) -> list[str]:
        """The group of each row, "" for none; see `xface.data.groups`."""
        samples = self.samples
        return groups(samples.paths, samples.column(self.group_by), samples.column("pair"))

    @property
    def grouped_by(self) -> str:
        """The columns that put images into groups; "" where each image is its own."""
        names = dict.fromkeys((self.group_by, "pair"))
        return ", ".join(name for name in names if any(self.samples.column(name)))

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise UsageError for a name that is no column of the data, or one whose values say nothing more."""
        own = [str(name) for name in self.samples.table if name not in MAPPED]
        for name in names:
            if name in MAPPED and name in self.samples.table:
                raise UsageError(
                    f"errors cannot be broken down by {name!r}: it says {MAPPED[name]}; give another column"
                )
            if name not in own:
                raise UnknownNameError("column", name, own)

    def read_as(self, labels: Vocabulary) -> AnalysedData:
        """The data with its labels as the classes of a vocabulary; DataError for those that mean none."""
        return replace(self, samples=self.samples.read_as(labels))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the rows."""
        return {
            "source": os.path.abspath(self.source),
            "sha256": self.sha256,
            "images": len(self),
            "split": self.split,
            "limit": self.limit,
            "notes": list(self.samples.notes),
        }


def read_data(
    source: str,
    split: str | None = None,
    limit: int | None = None,
    group_by: str | None = None,
    labels: Vocabulary | None = None,
) -> AnalysedData:
    """Read a CSV or a folder; only the rows of `split`, and of these `limit` of each class, drawn at random.

    What is drawn depends on the paths and a fixed seed, and a larger limit adds to it. `labels` are those
    that the data may have.

    Raises:
        DataError: it cannot be read. UnknownNameError: it has no column `group_by`. UsageError: a limit of 0.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images of each class leaves none; give 1 or more")
    read = read_samples(source, keep_missing=True, labels=labels)
    if group_by is not None and group_by not in read.table:
        raise UnknownNameError("column", group_by, [str(name) for name in read.table])
    chosen = read if split is None else read.of_split(split)
    kept, said = (chosen, ()) if limit is None else _drawn(chosen, limit)
    kept = Samples(kept.table, (*read.notes, *said))
    return AnalysedData(source, kept, read.sha256, group_by or GROUP, split, limit)


def _drawn(samples: Samples, limit: int) -> tuple[Samples, tuple[str, ...]]:
    """Some samples of each class, in their order; and a note on how many there were."""
    kept: list[int] = []
    for label in samples.counts():
        rows = [row for row, name in enumerate(samples.labels) if name == label]
        rows.sort(key=lambda row: samples.paths[row])
        kept += np.random.default_rng(SEED).permutation(rows)[:limit].tolist()
    of_all = ", ".join(f"{count:,} {label}" for label, count in samples.counts().items())
    note = f"at most {limit:,} images of each class, drawn at random (seed {SEED}) of {of_all}"
    return samples.select(sorted(kept)), (note,)
