"""Labels: which class each word of a data set means, by name, by common spellings, or as the user says."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xface.errors import DataError, UnknownNameError

CLASSES = ("fake", "real")
"""The classes in the order of the network's outputs; the first is the positive one."""

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "fake": ("fake", "forged", "forgery", "deepfake", "manipulated", "tampered", "synthetic", "generated"),
    "real": ("real", "genuine", "original", "authentic", "pristine"),
}
"""Common words for a forged and a genuine face. A name of one kind of forgery isn't among them."""

DIGITS: Mapping[str, str] = {"1": "fake", "1.0": "fake", "0": "real", "0.0": "real"}
"""In most detection data the positive class is 1; where folders' names say otherwise, it isn't taken so."""

LISTED = 12  # so many labels are named in a message, the rest counted

_MEANING = {word: meaning for meaning, words in SPELLINGS.items() for word in words}


@dataclass(frozen=True)
class Vocabulary:
    """The labels that data may have, and the class that each of them means.

    `classes` are the names that labels end as. `given` says what other labels mean, before all else.
    `positive` is the forgery among classes whose names don't tell. A label is a class by its name in any
    case; with two classes also by a common word for a forged or a genuine face, or by 1 and 0, with more
    classes only by one for a genuine face, as the kind of a forgery can't be told.

    Raises:
        UnknownNameError: `given` names a class that is none.

    Example:
        >>> words = Vocabulary(("real", "swap"), {"Deepfakes": "swap"})
        >>> [words.class_of(label) for label in ("REAL", "genuine", "Deepfakes", "forged", "sawp")]
        ['real', 'real', 'swap', 'swap', None]
        >>> Vocabulary(("real", "swap", "gan")).class_of("forged") is None
        True
    """

    classes: tuple[str, ...] = CLASSES
    given: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None

    def __post_init__(self) -> None:
        for target in self.given.values():
            if self._class_of_word(target) is None:
                raise UnknownNameError("class", target, self.classes)

    @classmethod
    def of_detector(
        cls, classes: Sequence[str], positive: str, given: Mapping[str, str] | None = None
    ) -> Vocabulary:
        """The labels of data for a detector: its classes, of which Fake and Real are fake and real."""
        return cls(tuple(map(_plain, classes)), given or {}, _plain(positive))

    @property
    def positive_label(self) -> str:
        """The label of the positive class; the first class where none is named."""
        return self.positive or self.classes[0]

    def class_of(self, label: str) -> str | None:
        """The class that a label means, None if it isn't known."""
        return self.class_of_folder(label) or self._by_digit.get(_folded(label))

    def class_of_folder(self, name: str) -> str | None:
        """The class that a folder's name means: as a label, but 1 and 0 are no names of classes."""
        return self._named(name) or self._by_meaning.get(_MEANING.get(_folded(name), ""))

    def is_class(self, name: str) -> bool:
        """Whether it is a class by its name, or by what is given, not only by a common spelling."""
        return self._named(name) is not None

    def read(
        self, labels: Sequence[str], where: str, lines: Sequence[object] = ()
    ) -> tuple[list[str], tuple[str, ...]]:
        """The class of each label, and notes on the labels that were spelled otherwise.

        Args:
            labels: as the data has them.
            where: what messages call the data.
            lines: the line of each label, where the data has lines.

        Raises:
            DataError: labels mean no class; lists them with their counts.

        Example:
            >>> Vocabulary().read(["fake", "FAKE", "original"], "a.csv")
            (['fake', 'fake', 'real'], ("labels of a.csv are read as: 'FAKE' fake (1), 'original' real (1)",))
            >>> Vocabulary().read(["fake", "faek", "real"], "a.csv", [2, 3, 4])
            Traceback (most recent call last):
            xface.errors.DataError: a.csv has labels that are none of the classes fake, real: 'faek' ...
        """
        counts = Counter(labels)
        known = {label: self.class_of(label) for label in counts}
        if strange := [label for label, _ in counts.most_common() if known[label] is None]:
            raise DataError(self._refusal(strange, counts, labels, where, lines))
        classes = {label: name for label, name in known.items() if name is not None}
        respelled = [
            f"{label!r} {name} ({counts[label]:,})" for label, name in classes.items() if label != name
        ]
        said = f"labels of {where} are read as: {_listed(sorted(respelled))}"
        notes = ((said,) if respelled else ()) + self.unused(counts, where)
        return [classes[label] for label in labels], notes

    def unused(self, labels: Iterable[str], where: str) -> tuple[str, ...]:
        """Notes on what is given and no label, or folder, is called."""
        folded = set(map(_folded, labels))
        missing = [repr(name) for name in self.given if _folded(name) not in folded]
        return (
            (f"nothing in {where} is labelled {_listed(missing)}: --label has no use there",)
            if missing
            else ()
        )

    def _refusal(
        self,
        strange: Sequence[str],
        counts: Mapping[str, int],
        labels: Sequence[str],
        where: str,
        lines: Sequence[object],
    ) -> str:
        def place(label: str) -> str:
            if not lines:
                return f"{label!r} ({counts[label]:,})"
            start = "line" if counts[label] == 1 else "from line"
            return f"{label!r} ({counts[label]:,}, {start} {lines[labels.index(label)]})"

        named = _listed([place(label) for label in strange[:LISTED]], len(strange))
        return (
            f"{where} has labels that are none of the classes {', '.join(self.classes)}: {named}; correct "
            "them, or say what they mean: --label NAME=CLASS (in a training config data.labels)"
        )

    def _class_of_word(self, word: str) -> str | None:
        return self._by_name.get(_folded(word)) or self._by_meaning.get(_MEANING.get(_folded(word), ""))

    def _named(self, label: str) -> str | None:
        if label in self.given:
            return self._class_of_word(self.given[label])
        if (folded := _folded(label)) in self._given_folded:
            return self._class_of_word(self._given_folded[folded])
        return self._by_name.get(folded)

    @cached_property
    def _given_folded(self) -> dict[str, str]:
        return {_folded(label): name for label, name in self.given.items()}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {_folded(name): name for name in self.classes}

    @cached_property
    def _by_meaning(self) -> dict[str, str]:
        """The class of forged and that of genuine faces, as far as they can be told."""
        meant: dict[str, list[str]] = {"fake": [], "real": []}
        for name in self.classes:
            if meaning := _MEANING.get(_folded(name)):
                meant[meaning].append(name)
        if len(self.classes) == 2:
            return self._of_two(meant)
        return {"real": meant["real"][0]} if len(meant["real"]) == 1 else {}

    @cached_property
    def _by_digit(self) -> dict[str, str | None]:
        """The class of 1 and of 0, as is usual; none if one of them is given another one."""
        usual = {digit: self._by_meaning.get(meaning) for digit, meaning in DIGITS.items()}
        given = {label: self._class_of_word(name) for label, name in self._given_folded.items()}
        unusual = any(given[digit] != usual[digit] for digit in usual.keys() & given)
        return {} if unusual or len(self.classes) != 2 else usual

    def _of_two(self, meant: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """One class that is known tells the other; without any the positive one is the forgery."""
        if any(len(names) == 2 for names in meant.values()):
            return {}
        found = {meaning: names[0] for meaning, names in meant.items() if names}
        if not found and self.positive:
            found = {"fake": self.positive}
        for meaning, other in (("fake", "real"), ("real", "fake")):
            if meaning in found and other not in found:
                [found[other]] = [name for name in self.classes if name != found[meaning]]
        return found


def _plain(name: str) -> str:
    return name.casefold() if name.casefold() in CLASSES else name


def _folded(label: str) -> str:
    return unicodedata.normalize("NFKC", label).strip().casefold()


def _listed(named: Sequence[str], count: int = 0) -> str:
    more = max(count, len(named)) - len(named[:LISTED])
    return ", ".join(named[:LISTED]) + (f" and {more:,} more" if more else "")
