"""What stands in the `trust.json` of `xface trust`: how far the maps of one detector can be believed.

Answerers are whoever says which part of a face decides: `maps` (a method at a layer), `baselines` (which know
nothing of the trained network), and `effects` (regions hidden in turn). All pass the same checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from xface.results import Grade
from xface.runs.checking import read_json
from xface.runs.schema import Count, Layer, Number, Record

TRUST = "trust.json"
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
    the same cases, with its interval; `simultaneous_interval` is wider, so as to hold for all answers at
    once, and grades go by it. All are null where they are undefined, and for baselines themselves.
    """

    value: Number | None
    interval: Interval | None
    n: Count
    best_baseline: str | None = None
    difference: Number | None = None
    difference_interval: Interval | None = None
    simultaneous_interval: Interval | None = None
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
    """A baseline: its `method` is `gaussian`, `edges` or `random`, its `layer` null.

    `untrained` stands once for each map: `of` is that map's method, null for others, and `layer` its layer.
    """

    method: str
    layer: Layer
    checks: dict[str, CheckRecord]
    verdict: str
    of: str | None = None


class LeftOut(Record):
    """Pictures or pairs that a check could not use, for one reason; `failed` if they could not be read."""

    what: str
    reason: str
    count: Count
    example: str = ""
    failed: bool = False


class TrustData(Record):
    """What was asked about, of what was asked for; what is not is in `left_out`, with reasons.

    Attributes:
        source, sha256: the table or folder, and its hash.
        forged: forged pictures of the data; `made`: those made of its real ones, by self-blending.
        pairs: forged pictures on which the real one that they were made from lies, pixel on pixel.
        masked: those of which the manipulated pixels are known, from `masks`: `pairs` (difference images),
            `files`, `self_blended`, several with commas between, or "" where there are none.
        swaps: real faces with one region pasted from the forgery, in which that region is known to decide.
        groups: groups of pictures that are not independent.
    """

    source: str
    sha256: str
    forged: Count
    made: Count
    pairs: Count
    masked: Count
    swaps: Count
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
