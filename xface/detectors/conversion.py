"""Conversion: from any checkpoint that xface reads to clean weights with a card."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copymode

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from xface.detectors.card import Card, card_path, write_card
from xface.detectors.card_editing import CardChanges, contradictions, fitting_card, open_given
from xface.detectors.checkpoints.checkpoint import read_checkpoint
from xface.detectors.class_names import class_names
from xface.detectors.loading import Opened
from xface.errors import OutputError, UsageError
from xface.files.paths import absolute, check_utf8, is_folder
from xface.files.writing import written_among_others
from xface.networks.blueprints import parameter_count
from xface.preprocessing import preset_name

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Converted:
    """The files that were written, and the card in one of them.

    `parameters` counts the network's; `assumed` says what of the card was guessed, empty where the original
    had a card; `notes` say what of the original was left out, where it contradicts the card, and what the
    card leaves open.
    """

    weights: Path
    card_file: Path
    card: Card
    parameters: int
    assumed: str
    notes: tuple[str, ...]


def convert(
    weights: str | Path,
    out: str | Path,
    arch: str | None = None,
    state_key: str | None = None,
    changes: CardChanges | None = None,
) -> Converted:
    """Write a checkpoint's network as `out`, a safetensors file in float32, and its card beside it.

    The logits stay the same bit by bit. The card says everything that the original's says, or what is assumed
    where it has none, with `changes`. Both files appear whole, or neither does.

    Raises:
        UsageError: `out` or its card is there already, or isn't named .safetensors, or would share its card
            with the original; a change is wrong.
        CheckpointError: the weights cannot be restored, or the card does not fit them.
        OutputError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     convert("meso4", f"{folder}/mine.safetensors").card.classes
        ('fake', 'real')
    """
    target, changes = _new_file(Path(out)), changes or CardChanges()
    found = open_given(weights, arch, changes.classes, state_key)
    _check_cards_differ(found.checkpoint.path, target)
    card, assumed = fitting_card(found, changes), _assumed(found, changes)
    if assumed:
        whence = f"Written from {found.checkpoint.path.name}, which had no card; assumed: {assumed}."
        card = replace(card, notes=f"{whence} {card.notes}".strip())
    card = _written(found, card, target)
    count = parameter_count(found.restored.model)
    notes = (*found.notes, *contradictions(found, changes.classes), *card.notes_on_use)
    return Converted(target, card_path(target), card, count, assumed, notes)


def _new_file(path: Path) -> Path:
    if path.suffix != SUFFIX:
        raise UsageError(f"{str(path)!r} must end in {SUFFIX}, which is the format that is written")
    check_utf8(path, UsageError, "safetensors")
    if taken := [str(file) for file in (path, card_path(path)) if os.path.lexists(file)]:
        raise UsageError(f"{' and '.join(taken)} would be overwritten; give another name, or remove it first")
    if not is_folder(absolute(path, OutputError).parent, OutputError):
        raise OutputError(f"{path}: there is no folder {str(path.parent)!r}; make it, or give another")
    return path


def _check_cards_differ(original: Path, target: Path) -> None:
    """Raise UsageError if the new card would be taken for the original's, whose hash is another."""
    cards = map(card_path, (original, Path(os.path.realpath(original))))
    if os.path.realpath(card_path(target)) in map(os.path.realpath, cards):
        raise UsageError(
            f"{card_path(target)} would be the card of both {str(original)!r} and {str(target)!r}, which can "
            "belong to one only; give another name"
        )


def _assumed(found: Opened, changes: CardChanges) -> str:
    """What of the new card nobody said: neither a card, nor the file itself, nor the call."""
    if found.card_file:
        return ""
    preprocessing, classes = found.card.preprocessing, found.card.classes
    guesses = []
    if changes.preset is None:
        guesses.append(f"preprocessing {preset_name(preprocessing) or preprocessing}")
    if changes.classes is None and class_names(found.checkpoint, len(classes)) is None:
        guesses.append(f"classes {', '.join(classes)}")
    return "; ".join(guesses)


def _written(found: Opened, card: Card, target: Path) -> Card:
    """Write both files, and return the card with the hash of the weights on it."""
    card_file = card_path(target)
    state = _separate(found.restored.model)
    with _paired(target, card_file), written_among_others(target) as part:
        try:
            save_file(state, part, metadata={"format": "pt"})
        except (SafetensorError, RuntimeError) as error:
            reason = f"{target}: cannot be written ({error}); give another folder, or make room"
            raise OutputError(reason) from error
        sha256 = read_checkpoint(part).sha256
        trust = card.trust and replace(card.trust, weights_sha256=sha256)  # the network is the same
        card = replace(card, sha256=sha256, trust=trust, source=card_file.name)
        with written_among_others(card_file) as card_part:
            write_card(card, card_part)
            copymode(card_part, part)  # safetensors makes a file that nobody else may read
    return card


def _separate(model: nn.Module) -> dict[str, Tensor]:
    """Its state, each tensor with storage of its own, as the format wants it: networks may tie weights."""
    state: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in model.state_dict().items():
        place = tensor.untyped_storage().data_ptr()
        state[name] = tensor.clone() if place in storages else tensor.contiguous()
        storages.add(place)
    return state


@contextmanager
def _paired(weights: Path, card_file: Path) -> Iterator[None]:
    """Take the card away again if the weights, which are renamed last, do not follow."""
    try:
        yield
    except BaseException:
        if not os.path.lexists(weights):
            with suppress(OSError):
                card_file.unlink()
        raise
