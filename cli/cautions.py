"""What a user must know of a detector before its verdicts, said once on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from xface.detectors import Detector


def say_cautions(detector: Detector) -> None:
    """Say that a network is untrained, and what of its weights file was left out."""
    from xface.wording import UNTRAINED

    if not detector.trained:
        click.secho(f"xface: {UNTRAINED}", err=True, bold=True)
    say_notes(detector.notes)


def say_notes(notes: tuple[str, ...]) -> None:
    """Say each note, in one line."""
    from xface.wording import printable

    for note in notes:
        click.echo(f"xface: note: {printable(note)}", err=True)
