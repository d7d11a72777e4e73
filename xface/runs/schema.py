"""What stands in a run's `manifest.json` and `findings.json`; more may stand there than is named here."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from xface.results import Outcome
from xface.runs.tables import OWN_COLUMNS

MOST_AT_THE_TOP = 3
LEVEL_AT_THE_TOP = 0.03  # tests are exact for many groups only: with it, of few too at most 5 % show anything
ALIKE = 1.5  # parts of a face whose areas differ by less than this factor are alike: one control serves both
MOST = 2**53  # whole numbers up to here are exact as floats

Number = Annotated[float, Field(ge=-1e300, le=1e300)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Row = Annotated[int, Field(ge=0, le=MOST)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
PLACE = r"[0-9]{1,3}(?:\.[0-9])?,[0-9]{1,3}(?:\.[0-9])?"
Layer: TypeAlias = str | None
Rule: TypeAlias = Literal["partial", "extended", "published"]


def reaches_the_top(p_all: float | None) -> bool:
    """Whether what has this p against all that a run tests may be told at the top.

    Example:
        >>> reaches_the_top(0.02), reaches_the_top(0.05), reaches_the_top(None)
        (True, False, False)
    """
    return p_all is not None and p_all <= LEVEL_AT_THE_TOP


class Record(BaseModel):
    """A record as JSON has it: nothing is taken for what it isn't, such as "1" for 1."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class EstimateRecord(Record):
    """A value with its interval."""

    value: Number | None
    low: Number | None
    high: Number | None


class Ratio(Record):
    """A ratio with its interval, for a logarithmic axis."""

    value: NotNegative | None
    low: NotNegative | None
    high: NotNegative | None


class KindRecord(Record):
    """A kind of map."""

    method: str
    layer: Layer
    rule: str


class ThresholdRecord(Record):
    """From which score on an image is called positive, and who said so."""

    value: Share
    origin: str


class DataRecord(Record):
    """The labelled set."""

    source: str
    sha256: str
    images: Count
    notes: list[str]


class DetectorRecord(Record):
    """The detector: `trained` is absent in older runs, where an untrained network has no hash."""

    arch: str
    trained: bool = True
    weights_sha256: str | None = None


class Settings(Record):
    """What the tables depend on, all of which is compared when a run resumes."""

    weights_sha256: str | None = None


class AttributeWords(Record):
    """What an attribute is called, its unit, and what a face with more or less of it is."""

    label: str
    unit: str
    more: str
    less: str


class DrawnRegion(Record):
    """A region on the report's face, as `regions_of` says."""

    outlines: list[Annotated[str, Field(pattern=rf"^{PLACE}( {PLACE})*$")]]
    label: list[Annotated[Number, Field(ge=-1, le=240)]] = Field(min_length=2, max_length=2)


class Earned(Record):
    """What a kind of map earned when the detector was checked."""

    method: str
    layer: Layer
    grade: str
    words: str


class BegunManifest(Record):
    """A manifest from the run's beginning on.

    `trust` is what each kind of map earned, empty where the detector was not checked, and null in older runs.
    `rules` (of each kind, none before the first map) and `notes` are of the maps of the run's own images.
    """

    xface: str
    command: list[str]
    created: str
    versions: dict[str, str]
    device: str
    detector: DetectorRecord
    data: DataRecord
    threshold: ThresholdRecord
    positive: str
    classes: list[str] = Field(min_length=1)
    target: str
    kinds: list[KindRecord]
    trust: list[Earned] | None = None
    choice: str = ""
    group_by: str
    by: list[str] = []
    proposals: list[dict[str, Number]] = []
    settings: Settings
    files: dict[str, str] = {}
    attributes: dict[str, AttributeWords] = {}
    regions: dict[str, DrawnRegion] = {}
    rules: list[Rule] = []
    notes: list[str] = []

    @field_validator("attributes")
    @classmethod
    def _are_no_other_columns(cls, attributes: dict[str, AttributeWords]) -> dict[str, AttributeWords]:
        if taken := OWN_COLUMNS & attributes.keys():
            raise ValueError(f"{min(taken)!r} is a column of another kind")
        return attributes

    @model_validator(mode="after")
    def _kinds_differ(self) -> BegunManifest:
        if len({(kind.method, kind.layer or "") for kind in self.kinds}) < len(self.kinds):
            raise ValueError("a kind of map occurs twice")
        if self.rules and len(self.rules) != len(self.kinds):
            raise ValueError("there are other numbers of rules and of kinds of maps")
        return self


class Manifest(BegunManifest):
    """A manifest of a run that has its tables."""

    stages: dict[str, NotNegative]
    images_per_second: NotNegative


class PartNote(Record):
    """The note on a part of a run that is being made.

    `files` are its files' hashes, by table; `seconds` by stage; `rules` those of each kind of map, none where
    no map was made; `notes` what is to be known of its maps.
    """

    files: dict[str, str]
    seconds: dict[str, NotNegative]
    rules: list[Rule] = []
    notes: list[str] = []


class Done(Record):
    """What `run.json` says of a training run that is over."""

    finished: Literal[True]


class Excluded(Record):
    """Images left out for one reason."""

    status: str
    reason: str
    count: Count
    by_label: dict[str, Count]
    example: str = ""


class SummaryRecord(Record):
    """The head of the findings."""

    images: Count
    scored: Count
    groups: Count
    prevalence: EstimateRecord
    counts: dict[Outcome, Count] = Field(min_length=4)
    scores: dict[str, EstimateRecord]
    excluded: list[Excluded]


class MissingRecord(Record):
    """Images that have one thing amiss."""

    what: str
    method: str
    layer: Layer
    by_outcome: dict[str, Pair]
    by_label: dict[str, Pair] = {}
    p: Share | None
    uneven: bool


class Coarse(Record):
    """The part of a region's maps that are too coarse for it."""

    method: str
    layer: Layer
    region: str
    part: Number


class HealthRecord(Record):
    """What is missing from the tables."""

    statuses: list[MissingRecord]
    coarse: list[Coarse]
    warnings: list[str]


class UnadjustedRecord(Record):
    """A difference without regard to the score, which may do no more than follow it."""

    difference: EstimateRecord
    delta: Number | None
    p: Share | None
    q: Share | None
    finding: bool


class EquivalenceRecord(Record):
    """Whether the sides are the same: p that they differ by the margin or more."""

    margin: NotNegative | None
    p: Share | None
    same: bool


class ContrastRecord(Record):
    """A number's mean on one outcome against another's.

    Where `adjusted`, all but `raw` is at equal scores. Older runs lack what has a default here: there nothing
    is adjusted, and nothing is at the top.
    """

    contrast: str
    n: Pair
    groups: Pair
    difference: EstimateRecord
    delta: Number | None
    p: Share | None
    q: Share | None
    finding: bool
    note: str
    adjusted: bool = False
    raw: UnadjustedRecord | None = None
    equivalence: EquivalenceRecord | None = None
    p_all: Share | None = None

    @model_validator(mode="after")
    def _is_of_something(self) -> ContrastRecord:
        if self.finding and self.difference.value is None:
            raise ValueError("a finding must have a difference")
        return self


class OfRegion(ContrastRecord):
    """A contrast of a region's lift; `coarse`: the map's cells are too large for the region."""

    method: str
    layer: Layer
    region: str
    coarse: bool = False


class OfAttribute(ContrastRecord):
    """A contrast of an attribute."""

    attribute: str
    means: Annotated[list[EstimateRecord], Field(min_length=2, max_length=2)]


class PrimaryRecord(Record):
    """The contrast that is stated first."""

    text: str
    result: ContrastRecord | None


class RegionMeanRecord(Record):
    """A region's mean lift and share for one outcome."""

    method: str
    layer: Layer
    region: str
    outcome: str
    n: Count
    groups: Count
    lift: Ratio
    share: EstimateRecord


class OddsRecord(Record):
    """An attribute's odds ratio."""

    attribute: str
    odds_ratio: Ratio
    p: Share | None
    q: Share | None
    finding: bool


class RegressionRecord(Record):
    """A regression of errors on attributes."""

    rows: list[OddsRecord]
    n: Count
    groups: Count
    note: str


class ConditionRecord(Record):
    """An attribute's range."""

    attribute: str
    low: Number | None
    high: Number | None
    words: str


class SliceRecord(Record):
    """Images under conditions, and how often they are misclassified."""

    conditions: list[ConditionRecord]
    n: Count
    errors: Count
    rate: EstimateRecord
    rest: EstimateRecord
    q: Share | None
    finding: bool


class ClusterRecord(Record):
    """Errors whose maps are alike."""

    outcome: str
    method: str
    layer: Layer
    number: Count
    size: Count
    medoid: Row
    members: list[Row]
    lifts: dict[str, Number | None]


class ErrorRateRecord(Record):
    """How often a part's images have one kind of error, and all others."""

    outcome: str
    n: Count
    errors: Count
    groups: Pair
    rate: EstimateRecord
    rest: EstimateRecord
    p: Share | None
    q: Share | None
    finding: bool
    note: str


class PartRecord(Record):
    """A column's value, or several of them."""

    words: str
    kind: Literal["value", "numbers", "others", "none"]
    value: str | None
    low: Number | None
    high: Number | None
    n: Count
    groups: Count
    auc: EstimateRecord
    against_all: bool
    rates: Annotated[list[ErrorRateRecord], Field(min_length=2, max_length=2)]


class BreakdownRecord(Record):
    """The errors by a column of the data."""

    column: str
    parts: list[PartRecord]
    note: str


class ProposalRecord(Record):
    """A proposed threshold with its rates."""

    asked: dict[str, Number]
    threshold: Share | None
    false_positive_rate: EstimateRecord
    recall: EstimateRecord
    groups: Pair
    note: str
    text: str


class SentenceRecord(Record):
    """A finding in words, and the images that show it; `top` is its place in what a page begins with.

    `about` is repair, attribute, region, regression, slice, by, same; or caution, count for a mere count, or
    none for what was not found.
    """

    text: str
    about: str
    contrast: str
    name: str
    rows: list[Row]
    top: Annotated[int, Field(ge=1, le=MOST_AT_THE_TOP)] | None = None
    p_all: Share | None = None


class RepairRecord(Record):
    """How often hiding a part of the face turns verdicts of one outcome, and hiding as much elsewhere.

    Of `images`, `n` in `groups` had it hidden. What begins with `right_` is of errors against right verdicts
    of their class at equal scores.
    """

    outcome: Outcome
    region: str
    images: Count
    n: Count
    groups: Count
    turned: Count
    rate: EstimateRecord
    control_turned: Count
    control_rate: EstimateRecord
    difference: EstimateRecord
    effect: EstimateRecord
    p: Share | None
    q: Share | None
    finding: bool
    note: str
    like_scores: EstimateRecord
    right_difference: EstimateRecord
    right_q: Share | None
    right_p_all: Share | None
    rows: list[Row]


class FindingsRecord(Record):
    """The findings; a table that has none may be null, as `repairs` are where no parts were hidden."""

    level: Share
    note: str = ""
    summary: SummaryRecord
    health: HealthRecord
    primary: PrimaryRecord | None
    regions: list[RegionMeanRecord]
    contrasts: list[OfRegion]
    attributes: list[OfAttribute]
    regression: RegressionRecord | None
    slices: list[SliceRecord] | None
    clusters: list[ClusterRecord] | None
    breakdowns: list[BreakdownRecord] = []
    proposals: list[ProposalRecord] = []
    sentences: list[SentenceRecord] | None
    repairs: list[RepairRecord] | None = None

    def rows(self) -> set[int]:
        """The rows of all images that are named."""
        shown = {row for sentence in self.sentences or () for row in sentence.rows}
        shown = shown.union(*(each.rows for each in self.repairs or ()))
        return shown.union(*([each.medoid, *each.members] for each in self.clusters or ()))

    def columns(self) -> set[str]:
        """The columns by whose values errors are broken down."""
        return {each.column for each in self.breakdowns}

    def attributes_of_slices(self) -> set[str]:
        """The columns by which slices choose images."""
        return {condition.attribute for each in self.slices or () for condition in each.conditions}
