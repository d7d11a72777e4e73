"""`xface card`."""

from __future__ import annotations

import textwrap
from shlex import quote
from typing import TYPE_CHECKING

import click

from .batch import print_json
from .cautions import say_notes
from .options import ARCH, STATE_KEY, Names, NamingOption, card_options

if TYPE_CHECKING:
    from xface.detectors import Card
    from xface.detectors.card_editing import CardChanges, ChangedCard

INDENT = 16
EPILOG = """\b
Examples:
  xface card meso4
  xface card mine.pth --classes real,fake --preset imagenet
  xface card mine.pth --positive fake --threshold 0.7
  xface card mine.pth --crop box:0.3
  xface card mine.pth --trust results/trust
"""


@click.command(epilog=EPILOG)
@ARCH
@STATE_KEY
@card_options
@click.option(
    "--threshold",
    metavar="P|none",
    help="Classify as forged at or above this probability; none: by the likelier class.",
)
@click.option(
    "--crop",
    cls=NamingOption,
    names=Names("xface.detectors.crops", "CROPS"),
    metavar="NAME[:MARGIN]|none",
    help="Part of a picture that the network sees: its face ({names}), or with none all of it.",
)
@click.option("--training", metavar="TEXT", help="Text about the training data and procedure.")
@click.option("--trust", metavar="RUN|none", help="What its maps earned in this run of `xface trust`.")
@click.option("--notes", metavar="TEXT", help="Text with further remarks.")
@click.option("--json", "as_json", is_flag=True, help="The card as one JSON object, on stdout.")
@click.argument("weights", metavar="FILE|NAME")
def card(
    weights: str,
    arch: str | None,
    state_key: str | None,
    classes: tuple[str, ...] | None,
    positive: str | None,
    preset: str | None,
    threshold: str | None,
    crop: str | None,
    training: str | None,
    trust: str | None,
    notes: str | None,
    as_json: bool,
) -> None:
    """Show, create or edit the card of a weights file: its classes, and how pictures are prepared.

    FILE is the weights file, NAME a bundled detector. The options from --classes to --notes edit the card
    beside the file, or create it if there is none; the weights are loaded first, to check that it fits them.
    Without these options the card is shown, or what is assumed if there is none.
    """
    from xface.detectors.card_editing import CardChanges

    changes = CardChanges(classes, preset, positive, threshold, crop, training, notes, trust)
    if changes:
        _change(weights, changes, arch, state_key, as_json)
    else:
        _show(weights, arch, state_key, as_json)


def _show(weights: str, arch: str | None, state_key: str | None, as_json: bool) -> None:
    from xface.detectors.card_editing import open_given
    from xface.wording import printable

    found = open_given(weights, arch, state_key=state_key)
    name = printable(weights)
    if as_json:
        print_json(found.card.to_json())
    elif found.card_file:
        click.echo(f"card {printable(str(found.card_file))}:")
        print_card(found.card)
    else:
        click.echo(f"there is no card beside {name}; assumed:")
        print_card(found.card)
        click.echo(f"\nTo write one: xface card {printable(quote(weights))} --classes A,B --preset NAME")
    say_notes(found.card.notes_on_use)
    found.check(found.card)


def _change(
    weights: str, changes: CardChanges, arch: str | None, state_key: str | None, as_json: bool
) -> None:
    from xface.detectors.card_editing import change_card
    from xface.wording import printable

    made = change_card(weights, changes, arch, state_key)
    name = printable(str(made.path))
    if as_json:
        print_json(made.card.to_json())
    elif made.before is None:
        click.echo(f"card {name}, created:")
        print_card(made.card)
    else:
        changed = _changed_lines(made)
        click.echo(f"card {name}: {'changed' if changed else 'nothing to change'}")
        for line in changed:
            click.echo(line)
    say_notes(made.notes)


def print_card(card: Card) -> None:
    """Print what a card says, a line for each entry."""
    for name, text in _entries(card).items():
        wrapped = textwrap.wrap(text, 80 - INDENT, break_on_hyphens=False)
        click.echo(f"  {name:<{INDENT - 2}}" + f"\n{'':{INDENT}}".join(wrapped or ["-"]))


def _changed_lines(made: ChangedCard) -> list[str]:
    before, after = _entries(made.before) if made.before else {}, _entries(made.card)
    return [
        f"  {name}: {before[name] or '-'} -> {text or '-'}"
        for name, text in after.items()
        if text != before[name]
    ]


def _entries(card: Card) -> dict[str, str]:
    """Each entry in words; empty where the card says nothing of it."""
    from xface.preprocessing import preset_name
    from xface.wording import printable

    preset = preset_name(card.preprocessing)
    entries = {
        "architecture": card.arch,
        "classes": ", ".join(card.classes),
        "positive": card.positive or "none",
        "threshold": "none" if card.threshold is None else f"{card.threshold:g}",
        "preprocessing": f"{card.preprocessing}{f' (preset {preset})' if preset else ''}",
        "crop": str(card.crop or "none"),
        "training": card.training,
        "scores": ", ".join(f"{name} {score:g}" for name, score in card.scores.items()),
        "notes": card.notes,
        "sha256": card.sha256 or "",
        "trust": _trust_words(card),
    }
    return {name: printable(text) for name, text in entries.items()}


def _trust_words(card: Card) -> str:
    """How many maps earned which grade, on what and when."""
    from collections import Counter

    from xface.wording import counted, moment

    if card.trust is None:
        return ""
    grades = Counter(each.grade for each in card.trust.maps)
    data = card.trust.data
    of = counted(data.forged, "forged picture") if data.forged else counted(data.made, "made forgery")
    on = f"checked on {of} of {data.source}, {moment(card.trust.created)}"
    return "; ".join([on, *(f"{counted(count, 'map')} {grade}" for grade, count in grades.items())])
