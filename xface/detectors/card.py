"""The card beside a checkpoint: what a detector's weights mean and how they must be fed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from xface.detectors.crops import CropSettings
from xface.detectors.trust_digest import TrustDigest
from xface.errors import CheckpointError, OutputError, TargetError, UsageError, XFaceError
from xface.files.json_text import parse
from xface.files.paths import is_file, read_text, status, writing
from xface.networks.zoo import architecture
from xface.preprocessing import Preprocessing
from xface.validation import validated


@dataclass(frozen=True)
class Card:
    """What is known about one checkpoint.

    `classes` are in the order of the logits; a one-logit head has two, and its logit speaks for the second.
    `positive` is the forgery, by default the class that is called fake in any spelling of case; an image is
    called that from the probability `threshold` up, without one if no other class is likelier. `crop` is done
    before the preprocessing. `scores` are measured on held-out data, `training` says on what and how it was
    trained, `sha256` is that of the weights file, and `source` says where this card comes from. `trust` is
    what the maps earned in a run of `xface trust`. Raises CheckpointError for values without sense.

    Example:
        >>> card = Card("resnet18", ("Fake", "Real"), Preprocessing((224, 224)))
        >>> card.positive, card.class_index("REAL")
        ('Fake', 1)
    """

    arch: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    crop: CropSettings | None = None
    positive: str | None = None
    threshold: float | None = None
    training: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""
    sha256: str | None = None
    trust: TrustDigest | None = None
    source: str = "given in code"

    def __post_init__(self) -> None:
        folded = [name.casefold() for name in self.classes]
        if len(folded) < 2 or len(set(folded)) < len(folded) or "" in folded:
            raise CheckpointError(f"classes {list(self.classes)} must be at least two different names")
        if not all(name.isprintable() for name in self.classes):
            raise CheckpointError(f"classes {list(self.classes)} must be printable names of one line")
        positive = "fake" if self.positive is None else self.positive.casefold()
        if self.positive is not None and positive not in folded:
            raise CheckpointError(f"positive class {self.positive!r} is none of {', '.join(self.classes)}")
        spelled = self.classes[folded.index(positive)] if positive in folded else None
        object.__setattr__(self, "positive", spelled)
        if self.threshold is not None and not (0 < self.threshold < 1 and spelled):
            raise CheckpointError(f"threshold {self.threshold} must be in (0, 1), and needs a positive class")
        if not all(math.isfinite(score) for score in self.scores.values()):
            raise CheckpointError(f"scores {dict(self.scores)} must be finite numbers")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise CheckpointError(f"sha256 {self.sha256!r} is not 64 hexadecimal digits in lower case")

    @property
    def notes_on_use(self) -> tuple[str, ...]:
        """What to know of its verdicts: that it doesn't say which class is the forgery, if it doesn't."""
        if self.positive is not None:
            return ()
        listed = ", ".join(self.classes)
        return (f"no class of {listed} is called fake; --positive NAME says which one is the forgery",)

    def class_index(self, name: str) -> int:
        """The index of a class, in any spelling of case; raises TargetError for a name that is none."""
        folded = [known.casefold() for known in self.classes]
        if name.casefold() not in folded:
            raise TargetError(f"no class {name!r}; this detector has {', '.join(map(repr, self.classes))}")
        return folded.index(name.casefold())

    def to_json(self) -> dict[str, Any]:
        """Everything on the card and its source, for outputs."""
        return {
            **asdict(self),
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            "crop": self.crop and self.crop.to_json(),
        }


def card_path(weights: Path) -> Path:
    """Where the card of a checkpoint lies: beside it, with the suffix .json."""
    return weights.with_suffix(".json")


def read_card(path: Path, weights_sha256: str | None = None) -> Card:
    """Read a card, and hold its SHA-256 against the weights'.

    Raises:
        CheckpointError: it cannot be read, has unknown keys or values of a wrong type, or belongs to other
            weights; the message names the file to correct.
    """
    text = read_text(path, CheckpointError)
    try:
        card = replace(_from_json(parse(text)), source=path.name)
    except ValueError as error:
        raise CheckpointError(f"cannot read the card {str(path)!r}: {error}; correct that file") from error
    except XFaceError as error:
        raise CheckpointError(f"the card {str(path)!r} is wrong: {error}; correct that file") from error
    if weights_sha256 and card.sha256 and card.sha256 != weights_sha256:
        raise CheckpointError(
            f"the card {str(path)!r} belongs to other weights: it says sha256 {card.sha256[:12]}..., "
            f"the file beside it has {weights_sha256[:12]}...; pair the right two, or correct the card"
        )
    if weights_sha256 and card.trust and card.trust.weights_sha256 != weights_sha256:
        raise CheckpointError(
            f"the card {str(path)!r} has the trust of other weights ("
            f"{card.trust.weights_sha256[:12]}..., not "
            f"{weights_sha256[:12]}...); take `trust` out of that file"
        )
    return card


def write_card(card: Card, path: Path) -> None:
    """Write a card as JSON, all of its preprocessing spelled out; raises OutputError."""
    content = {key: value for key, value in card.to_json().items() if key != "source"}
    if status(path, OutputError) is not None and not is_file(path, OutputError):
        raise OutputError(f"cannot write '{path}': something else is there; remove it, or give another path")
    with writing(path):
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _from_json(content: object) -> Card:
    if not isinstance(content, dict):
        raise UsageError("it must hold one JSON object")
    card = validated(Card, "card", _spelled_out(content))
    architecture(card.arch)  # raises for an unknown name
    return replace(card, scores=content.get("scores", {}))  # counts stay whole numbers


def _spelled_out(content: dict[str, Any]) -> dict[str, Any]:
    """A card's content with the parts that it nests checked, and complete."""
    if "source" in content:
        raise UsageError("card source is where the card lies, which no card says itself")
    preprocessing, crop = content.get("preprocessing"), CropSettings.from_json(content.get("crop"))
    given = (
        {} if preprocessing is None else {"preprocessing": Preprocessing.from_json(preprocessing).to_json()}
    )
    return {**content, **given, "crop": crop and crop.to_json()}
