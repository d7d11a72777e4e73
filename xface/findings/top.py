"""The top of a run's findings: at most three sentences, of what stands against all that was tested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, zip_longest
from typing import Any

from xface.findings.columns import BACKGROUND, EXAMPLES, Columns, Judged
from xface.findings.contrasts import Contrast
from xface.findings.sentences import SIDES, Sentence, fixed, places_of, rows_of, sign_of, stands
from xface.results import CONTRASTS, LIKENESSES, OUTCOMES, WRONG
from xface.runs.schema import MOST_AT_THE_TOP, reaches_the_top
from xface.statistics.effects import against_all
from xface.statistics.regression import Regression
from xface.statistics.slices import Slice
from xface.wording import kind_name, listed, mirror, spaced

MOST = 3  # regions or attributes in a sentence
RIGHT_VERDICTS = {
    frozenset(SIDES): "correctly classified images",
    frozenset(CONTRASTS): "correctly classified images of the same true class",
    frozenset(LIKENESSES): "correctly classified images with the same verdict",
}
"""What the right verdicts are that errors of both kinds are compared with."""

COMPARED = {name: OUTCOMES[sides[1]] for name, sides in SIDES.items()}
"""What the errors of each contrast are compared with."""

WITHIN_TRUTH = {error: contrast for contrast, (error, _) in CONTRASTS.items()}
"""Of each kind of error the contrast of which there is a regression."""


def with_p_all(
    tables: Sequence[Sequence[Contrast]], slices: Sequence[Slice]
) -> tuple[list[tuple[Contrast, ...]], tuple[Slice, ...]]:
    """Tables of contrasts, and the slices with `p_all`, p against all of them together.

    A family is one contrast of one table, corrected by its furthest number, or the slices; families are
    corrected by Holm's method.
    """
    families = [list(rows) for table in tables for _, rows in groupby(table, key=lambda row: row.contrast)]
    ps: list[list[float | None]] = [[row.p_family for row in rows] for rows in families]
    *found, of_slices = against_all([*ps, [each.q for each in slices]])
    rows = (
        replace(row, p_all=p)
        for family, corrected in zip(families, found, strict=True)
        for row, p in zip(family, corrected, strict=True)
    )
    whole = [tuple(next(rows) for _ in table) for table in tables]
    return whole, tuple(replace(each, p_all=p) for each, p in zip(slices, of_slices, strict=True))


@dataclass(frozen=True)
class Evidence:
    """What the top is taken from: the rows of each table with their columns, the slices, and words."""

    attributes: Sequence[Contrast]
    maps: Sequence[Contrast]
    slices: Sequence[tuple[Slice, Any]]
    columns: Columns
    map_columns: Columns
    judged: Judged
    regressions: Mapping[str, Regression]
    words: Mapping[str, Mapping[str, str]]
    meanings: Mapping[str, str]
    repairs: Iterable[Sentence] = ()

    def sentences(self) -> list[Sentence]:
        """At most three: repairs, attributes, slices, maps in this order; what belongs together is in one."""
        every = chain(self.repairs, self._of_attributes(), self._of_slices(), self._of_maps())
        places = range(1, MOST_AT_THE_TOP + 1)
        return [replace(each, top=place) for place, each in zip(places, every, strict=False)]

    def _of_attributes(self) -> Iterator[Sentence]:
        """One for false positives and one for false negatives, or one for both."""
        for told in together([self._told_by_attributes(rows) for rows in by_error(self.attributes)]):
            first = told.firsts[0]
            figures = f"{spaced(first.name['attribute'])} {_figures(first)}"
            text = f"{self._who(told.errors)} are {against(told.said, 'than')} ({figures})."
            yield self._sentence(text, "attribute", told, first.name["attribute"], self.columns)

    def _told_by_attributes(self, rows: Sequence[Contrast]) -> Told:
        said: dict[str, str] = {}
        chosen = {name: self._beside_others(name, some) for name, some in by_contrast(rows)}
        for contrast, some in chosen.items():
            adjectives = [self._adjective(row) for row in some[:MOST]]
            again = [each for each in adjectives if each in " ".join(said.values())]
            said[contrast] = listed(list(dict.fromkeys(again or adjectives)))
        return Told.of(rows, said, next(iter(chosen.values()))[0])

    def _beside_others(self, contrast: str, rows: Sequence[Contrast]) -> Sequence[Contrast]:
        """Those that also count with the other attributes held constant, if any do."""
        regression = self.regressions.get(WITHIN_TRUTH[SIDES[contrast][0]])
        odds = {each.attribute: each for each in regression.rows} if regression else {}
        return [row for row in rows if stands(row, odds.get(row.name["attribute"]))] or rows

    def _adjective(self, row: Contrast) -> str:
        return self.words[row.name["attribute"]]["more" if sign_of(row) > 0 else "less"]

    def _of_slices(self) -> Iterator[Sentence]:
        """The first that stands, unless a sentence on attributes has told of all it is made of."""
        told = {row.name["attribute"] for row in self.attributes if is_top(row) and row.contrast in CONTRASTS}
        for each, inside in self.slices:
            if not reaches_the_top(each.p_all):
                return
            if {condition.attribute for condition in each.conditions} <= told:
                continue
            where = " and ".join(condition.words for condition in each.conditions)
            text = (
                f"With {where}, {100 * (each.rate.value or 0):.0f} % of {each.n} images are misclassified, "
                f"of the rest {100 * (each.rest.value or 0):.0f} %."
            )
            rows = self.judged.examples(self.judged.wrong & inside, self.judged.sureness)
            name = " ".join(condition.attribute for condition in each.conditions)
            yield Sentence(text, "slice", "", name, rows, p_all=each.p_all)
            return

    def _of_maps(self) -> Iterator[Sentence]:
        """One for false positives and one for false negatives, or one for both."""
        kinds = list(dict.fromkeys(kind_name(row.name) for rows in by_error(self.maps) for row in rows))
        who = "the maps put" if kinds[1:] else f"{''.join(kinds)} puts"
        for told in together([_told_by_maps(rows, kinds) for rows in by_error(self.maps)]):
            first = told.firsts[0]
            errors = self._who(told.errors)
            figures = f"{spaced(first.name['region'])}: {_figures(first)}"
            text = f"For {errors[:1].lower()}{errors[1:]}, {who} {against(told.said, 'than for')}"
            text = f"{text}, at equal scores ({figures})."
            yield self._sentence(text, "region", told, first.name["region"], self.map_columns)

    def _who(self, errors: Sequence[str]) -> str:
        meanings = {outcome: f" ({meaning})" for outcome, meaning in self.meanings.items()}
        named = listed([f"{OUTCOMES[each]}{meanings.get(each, '')}" for each in errors])
        return named[:1].upper() + named[1:]

    def _sentence(self, text: str, about: str, told: Told, name: str, columns: Columns) -> Sentence:
        least = min(row.p_all for row in told.rows if row.p_all is not None)
        shown = zip_longest(*(rows_of(row, columns, self.judged) for row in told.firsts))
        rows = [row for some in shown for row in some if row is not None]
        return Sentence(text, about, told.firsts[0].contrast, name, tuple(rows[:EXAMPLES]), p_all=least)


@dataclass(frozen=True)
class Told:
    """What is told of `errors`: `said` of each contrast, the `rows` behind it, the `firsts` that show it."""

    errors: tuple[str, ...]
    said: Mapping[str, str]
    rows: tuple[Contrast, ...]
    firsts: tuple[Contrast, ...]

    @classmethod
    def of(cls, rows: Sequence[Contrast], said: Mapping[str, str], first: Contrast) -> Told:
        """Of one kind of errors."""
        return cls((SIDES[first.contrast][0],), said, tuple(rows), (first,))


def together(told: Sequence[Told]) -> Sequence[Told]:
    """Both kinds of errors in one, where the same is said of them."""
    if len(told) < 2 or len({words for each in told for words in each.said.values()}) > 1:
        return told
    one, other = told
    said = {**one.said, **other.said}
    return [Told(one.errors + other.errors, said, one.rows + other.rows, one.firsts + other.firsts)]


def is_top(row: Contrast) -> bool:
    """Whether a contrast stands against all that was tested."""
    return reaches_the_top(row.p_all)


def by_error(rows: Iterable[Contrast]) -> Iterator[list[Contrast]]:
    """The rows that stand, of false positives and of false negatives, where there are any."""
    standing = [row for row in rows if is_top(row)]
    for error in WRONG:
        if of := [row for row in standing if SIDES[row.contrast][0] == error]:
            yield of


def by_contrast(rows: Sequence[Contrast]) -> Iterator[tuple[str, list[Contrast]]]:
    """The rows of each contrast, those with hits first, the largest effect first."""
    for contrast in SIDES:
        if of := [row for row in rows if row.contrast == contrast]:
            yield contrast, sorted(of, key=lambda row: -abs(row.delta or 0))


def against(said: Mapping[str, str], than: str) -> str:
    """What is said of each contrast, and against what; what is the same is said once.

    Example:
        >>> against({"FP-TN": "darker", "FP-TP": "darker"}, "than")
        'darker than true negatives and true positives'
        >>> against({"FP-TN": "darker", "FN-TP": "darker"}, "than")
        'darker than correctly classified images of the same true class'
    """
    clauses = []
    for words in dict.fromkeys(said.values()):
        whom = _whom([contrast for contrast in said if said[contrast] == words])
        clauses.append(f"{words} {than} {whom}")
    return listed(clauses)


def _whom(contrasts: Sequence[str]) -> str:
    """What errors were compared with, as far as all of them were."""
    others = list(dict.fromkeys(COMPARED[contrast] for contrast in contrasts))
    if len(others) == 1 or len({SIDES[contrast][0] for contrast in contrasts}) == 1:
        return listed(others)
    return RIGHT_VERDICTS.get(frozenset(contrasts), "correctly classified images that are like them")


def _told_by_maps(rows: Sequence[Contrast], kinds: Sequence[str]) -> Told:
    said = {contrast: places(some, kinds) for contrast, some in by_contrast(rows)}
    return Told.of(rows, said, next(by_contrast(rows))[1][0])


def places(rows: Sequence[Contrast], kinds: Sequence[str]) -> str:
    """Where maps of these kinds lie more and less: both sides of a pair in one, each region once.

    What only some of the kinds show has their names. A background of less is a face of more: one of them is
    named, and none where parts of the face are.
    """
    named: dict[tuple[str, int], list[Contrast]] = {}
    for row in rows:
        named.setdefault((row.name["region"], sign_of(row)), []).append(row)
    for sign in (1, -1):
        whole = [key for key in (("face", sign), (BACKGROUND, -sign)) if key in named]
        parts = [key for key in named if key[1] == sign and key[0] not in ("face", BACKGROUND)]
        for key in whole if parts else whole[1:]:
            del named[key]
    said = list(_paired(named))
    told: dict[int, list[str]] = {1: [], -1: []}
    for words, sign, some in said[:MOST]:
        where = "" if len(some) == len(kinds) else f" ({listed(list(some))})"
        told[sign].append(f"{words}{where}")
    more = f" and {len(said) - MOST} more" if len(said) > MOST else ""
    amounts = {1: "more", -1: "less"}
    halves = [f"{amounts[sign]} weight on {listed(some)}" for sign, some in told.items() if some]
    return " and ".join(halves) + more


def _paired(
    named: Mapping[tuple[str, int], Sequence[Contrast]],
) -> Iterator[tuple[str, int, dict[str, None]]]:
    """What each region is called, with its sign and kinds of maps: of a left and a right one "both"."""
    done = set()
    for (region, sign), rows in named.items():
        if (region, sign) in done:
            continue
        mirrored, plural = mirror(region)
        pair = [*rows, *named.get((mirrored, sign), ())]
        done.add((mirrored, sign))
        words = f"both {spaced(plural)}" if (mirrored, sign) in named else f"the {spaced(region)}"
        coarse = " (coarse)" if any(row.coarse for row in pair) else ""
        yield f"{words}{coarse}", sign, dict.fromkeys(kind_name(row.name) for row in pair)


def _figures(row: Contrast) -> str:
    if row.adjusted:
        way = "higher" if sign_of(row) > 0 else "lower"
        size = fixed(abs(row.difference.value or 0), places_of(row.difference))
        what = ("share " if row.name.get("region") == "face" else "lift ") if "region" in row.name else ""
        return f"{what}{way} by {size}{'' if 'region' in row.name else ' at equal scores'}"
    one, other = (fixed(mean.value, places_of(row.difference)) for mean in row.means)
    return f"{one} against {other}"
