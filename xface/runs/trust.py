"""What stands in the `trust.json` of `xface trust`: how far the maps of one detector can be believed.

Answerers are whoever says which part of a face decides: `maps` (a method at a layer), `baselines` (which know
nothing of the trained network), and `effects` (regions hidden in turn). All pass the same checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from xface.runs.checking import read_json
from xface.runs.schema import Count, Layer, Number, Record

TRUST = "trust.json"
Grade: TypeAlias = Literal[
    "informative", "no better than the face's centre", "contradicted by randomisation", "not checked"
]
"""What a map's checks come to; `not checked` where the data leaves too little to judge by."""

INFORMATIVE: Grade = "informative"
NO_BETTER: Grade = "no better than the face's centre"
CONTRADICTED: Grade = "contradicted by randomisation"
NOT_CHECKED: Grade = "not checked"

Interval = Annotated[list[Number], Field(min_length=2, max_length=2)]
"""A 95 % interval over groups: its low and its high end."""


class CheckWords(Record):
    """A check in words: of which kind, what its value is, and which values are better.

    `family` names the check that gave several values; `percent` says that it is a rate; `ranks` that it takes
    part in the grade: the first such check that could be made decides.
    """

    family: str
    title: str
    about: str
    better: Literal["higher", "lower"]
    percent: bool = False
    ranks: bool = False
    source: str = ""


class PartRecord(Record):
    """A check's value on some of its cases, or at one point of its curve.

    `by` is `region`, `strength`, `layer`, `fraction` or what else divides it; `name` is which of these.
    """

    by: str
    name: str
    value: Number | None
    interval: Interval | None
    n: Count


class CheckRecord(Record):
    """One value of one answerer: its mean over `n` cases, with a 95 % interval over groups.

    `best_baseline` is the one whose value on the same cases is best, and `difference` this value less its, of
    the same cases, with its interval. All are null where they are undefined, and for baselines themselves.
    """

    value: Number | None
    interval: Interval | None
    n: Count
    best_baseline: str | None = None
    difference: Number | None = None
    difference_interval: Interval | None = None
    parts: list[PartRecord] = Field(default=[])


class AnswererRecord(Record):
    """A method at a layer (null for those at the input), or the region effects, and its checks by name.

    `decided_by` is the check of which the grade was taken, null where it was taken of none.
    """

    method: str
    layer: Layer
    checks: dict[str, CheckRecord]
    grade: Grade
    verdict: str
    decided_by: str | None = None


class BaselineRecord(Record):
    """A baseline: `gaussian`, `edges` or `random`; or `untrained`, with the method and layer it is of."""

    baseline: str
    method: str | None
    layer: Layer
    checks: dict[str, CheckRecord]


class LeftOut(Record):
    """Pictures or pairs that a check could not use, for one reason; `failed` if they could not be read."""

    what: str
    reason: str
    count: Count
    example: str = ""
    failed: bool = False


class TrustData(Record):
    """The pictures: how many were read, how many pairs there were, and where the masks came from.

    `masks` is `pairs` (difference images), `files`, `self_blended`, or "" where there are none.
    """

    source: str
    sha256: str
    images: Count
    pairs: Count
    masks: str
    groups: Count
    left_out: list[LeftOut]
    notes: list[str]


class Example(Record):
    """Where an answerer did best or worst on a check; the picture `file` lies in the run's folder."""

    check: str
    method: str
    layer: Layer
    end: Literal["best", "worst"]
    image: str
    value: Number
    file: str
    words: str


class TrustRecord(Record):
    """All of `trust.json`."""

    xface: str
    command: list[str]
    created: str
    versions: dict[str, str]
    device: str
    detector: dict[str, object]
    data: TrustData
    seeds: dict[str, Count]
    settings: dict[str, object]
    checks: dict[str, CheckWords]
    maps: list[AnswererRecord]
    baselines: list[BaselineRecord]
    effects: list[AnswererRecord]
    examples: list[Example] = Field(default=[])
    notes: list[str] = Field(default=[])


def read_trust(path: Path) -> TrustRecord:
    """The record in a run's folder, or in a file; UsageError if it is absent or isn't as xface writes it."""
    file = path / TRUST if path.is_dir() else path
    return read_json(file, TrustRecord, "run xface trust again")[1]
