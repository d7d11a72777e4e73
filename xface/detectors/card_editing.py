"""Changes to a card: what a user corrects on it, held against the weights that it describes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from xface.detectors.bundled import bundled
from xface.detectors.card import Card, card_path, write_card
from xface.detectors.class_names import class_names
from xface.detectors.crops import CropSettings
from xface.detectors.loading import UNTRAINED, Opened, open_weights
from xface.detectors.trust_digest import TrustDigest, digest_of
from xface.errors import CheckpointError, UsageError
from xface.files.writing import written_among_others
from xface.preprocessing import PRESETS

NO_THRESHOLD = NO_CROP = NO_TRUST = "none"
SEEN_BY = ("classes", "positive", "preprocessing", "crop")
"""What on a card says how pictures are asked about: what was measured with others of these says nothing."""


@dataclass(frozen=True)
class CardChanges:
    """What a card is to say from now on; None leaves an entry as it is.

    `preset` names a preprocessing preset, `threshold` is a number or `"none"`, `crop` is `"outline"`,
    `"box"`, `"box:0.1"` (with a margin) or `"none"`, `trust` the folder of a run of `xface trust`, or
    `"none"`. False if nothing changes.
    Raises UsageError for classes that are not at least two different names.

    Example:
        >>> card = Card("meso4", ("fake", "real"), PRESETS["meso"])
        >>> CardChanges(classes=("real", "fake"), threshold="0.7").on(card).threshold
        0.7
    """

    classes: tuple[str, ...] | None = None
    preset: str | None = None
    positive: str | None = None
    threshold: str | None = None
    crop: str | None = None
    training: str | None = None
    notes: str | None = None
    trust: str | None = None

    def __post_init__(self) -> None:
        folded = {name.casefold() for name in self.classes or ()} - {""}
        if self.classes is not None and not len(folded) == len(self.classes) >= 2:
            raise UsageError(f"classes {', '.join(self.classes)!r} must be at least two different names")

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    def on(self, card: Card) -> Card:
        """The card with these changes, but for a new `trust`, which depends on the weights too.

        A positive class that is no longer a class is found again, as on a card that names none. What maps
        earned is taken off where pictures are asked about otherwise from now on.

        Raises:
            UsageError: no such preset or crop, no number, a threshold that was another class's, or a card
                without sense, such as one whose positive class is none of its classes.
        """
        classes = self.classes or card.classes
        remains = card.positive is not None and card.positive in classes
        try:
            changed = replace(
                card,
                classes=classes,
                positive=self.positive or (card.positive if remains else None),
                threshold=None,
                preprocessing=card.preprocessing if self.preset is None else PRESETS[self.preset],
                crop=card.crop if self.crop is None else _crop(self.crop),
                training=card.training if self.training is None else self.training,
                notes=card.notes if self.notes is None else self.notes,
            )
            kept = self.trust != NO_TRUST and _asks_alike(card, changed)
            threshold = self._threshold(card, changed.positive)
            return replace(changed, threshold=threshold, trust=card.trust if kept else None)
        except CheckpointError as error:
            raise UsageError(f"such a card has no sense: {error}") from error

    def _threshold(self, card: Card, positive: str | None) -> float | None:
        if self.threshold is None:
            if card.threshold is not None and positive != card.positive:
                raise UsageError(
                    f"the threshold {card.threshold} was set for {card.positive!r}, which is no longer the "
                    "positive class; give a new one with it (--threshold), or none"
                )
            return card.threshold
        try:
            threshold = None if self.threshold == NO_THRESHOLD else float(self.threshold)
        except ValueError:
            raise UsageError(f"threshold {self.threshold!r} is neither a number nor none") from None
        if threshold is not None and positive is None:
            raise UsageError("a threshold is the forgery's; say which class that is (--positive NAME)")
        return threshold


def _asks_alike(card: Card, other: Card) -> bool:
    return all(getattr(card, name) == getattr(other, name) for name in SEEN_BY)


def _crop(text: str) -> CropSettings | None:
    if text == NO_CROP:
        return None
    kind, colon, margin = text.partition(":")
    try:
        return CropSettings(kind, float(margin) if colon else None)
    except ValueError:
        raise UsageError(f"crop {text!r} has a margin that is not a number; give it as box:0.3") from None


@dataclass(frozen=True)
class ChangedCard:
    """A card that was written to `path`; `before` is what it said, None where there was none.

    `notes` say where the file itself contradicts it, and what it leaves open.
    """

    path: Path
    card: Card
    before: Card | None
    notes: tuple[str, ...] = ()


def change_card(
    weights: str | Path, changes: CardChanges, arch: str | None = None, state_key: str | None = None
) -> ChangedCard:
    """Change the card of a weights file, or write one where there is none; whole or not at all.

    The weights are restored first: a card that does not fit them is not written.

    Raises:
        UsageError: the detector is bundled, or a change is wrong. OutputError: the card cannot be written.
        CheckpointError: the weights cannot be restored, or the changed card does not fit them.
    """
    found = open_given(weights, arch, changes.classes, state_key)
    path = Path(os.path.realpath(found.card_file or card_path(found.checkpoint.path)))
    if str(path) in {os.path.realpath(card_path(file)) for file in bundled().values()}:
        raise UsageError(
            f"{str(weights)!r} is bundled with xface, its card cannot be changed; "
            f"make a copy to change: xface convert {weights} mine.safetensors"
        )
    card = replace(fitting_card(found, changes), source=path.name)
    with written_among_others(path) as part:
        write_card(card, part)
    notes = [*contradictions(found, changes.classes), *card.notes_on_use]
    if found.card.trust and not card.trust and changes.trust is None:
        notes.append("`trust` was taken off, as it was measured otherwise; run xface trust again")
    return ChangedCard(path, card, found.card if found.card_file else None, tuple(notes))


def fitting_card(found: Opened, changes: CardChanges) -> Card:
    """The card of opened weights with changes, and with the architecture that they were restored to.

    New classes that contradict the file itself are taken, and its own go to the card's notes.

    Raises:
        UsageError: a change is wrong, or the run of `xface trust` is of another detector.
        CheckpointError: the card does not fit the weights.
    """
    card = changes.on(replace(found.card, arch=found.restored.arch.name))
    if changes.trust not in (None, NO_TRUST):
        card = replace(card, trust=_trust_of(found, card, Path(str(changes.trust))))
    found.check(replace(card, source="with these changes") if changes else card)
    notes = card.notes
    for outdated in contradictions(found, found.card.classes if changes.classes else None):
        notes = notes.replace(outdated, "").strip()
    return replace(card, notes=" ".join(filter(None, (notes, *contradictions(found, changes.classes)))))


def _trust_of(found: Opened, card: Card, run: Path) -> TrustDigest:
    """The digest of a run; raises UsageError unless it is of these weights, asked as this card says."""
    from xface.runs.trust import read_trust

    record = read_trust(run)
    digest, sha256 = digest_of(record), found.checkpoint.sha256
    if not (digest.weights_sha256 and record.detector.get("trained", True)):
        raise UsageError(f"'{run}' is of an untrained network; run xface trust with these weights")
    if digest.weights_sha256 != sha256:
        raise UsageError(
            f"'{run}' is of other weights: sha256 {digest.weights_sha256[:12]}..., these have "
            f"{sha256[:12]}...; run xface trust with these"
        )
    own, asked = json.loads(json.dumps(card.to_json())), record.detector.get("card")
    known = asked if isinstance(asked, dict) else {}
    if other := [name for name in SEEN_BY if known.get(name) != own[name]]:
        raise UsageError(
            f"'{run}' was made with other {' and '.join(other)} than the card says; run xface trust again"
        )
    return digest


def contradictions(found: Opened, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """A note where the file itself says other classes, or another order of them, than the given ones."""
    if classes is None:
        return ()
    try:
        own = class_names(found.checkpoint, len(classes)) or classes
    except CheckpointError:  # what it says is not understood, so it contradicts nothing
        return ()
    if [name.casefold() for name in own] == [name.casefold() for name in classes]:
        return ()
    return (f"Classes given as {', '.join(classes)}, but the file itself says {', '.join(own)}.",)


def open_given(
    weights: str | Path,
    arch: str | None = None,
    classes: tuple[str, ...] | None = None,
    state_key: str | None = None,
) -> Opened:
    """`open_weights` for what must be a file; raises UsageError for the untrained network."""
    if weights == UNTRAINED:
        raise UsageError("'none' stands for an untrained network, which has no file; give a weights file")
    return open_weights(weights, arch, state_key, classes)
