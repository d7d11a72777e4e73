"""`xface convert`."""

from __future__ import annotations

from shlex import quote

import click

from .card import print_card
from .cautions import say_notes
from .options import ARCH, STATE_KEY, card_options

EPILOG = """\b
Examples:
  xface convert mine.pth mine-clean.safetensors
  xface convert --state-key model_ema --classes real,fake run.pth ema.safetensors
  xface convert --preset opencv_bgr --positive Fake best.pth best-clean.safetensors
"""


@click.command(epilog=EPILOG)
@ARCH
@STATE_KEY
@card_options
@click.argument("weights", metavar="IN")
@click.argument("out", metavar="OUT.safetensors")
def convert(
    weights: str,
    out: str,
    arch: str | None,
    state_key: str | None,
    classes: tuple[str, ...] | None,
    positive: str | None,
    preset: str | None,
) -> None:
    """Write any checkpoint that xface reads as clean safetensors, with a card beside it.

    IN is a file (of torch, safetensors, or Keras for MesoNet) or a bundled detector's name. The card,
    OUT.json, has the settings of IN's card, or the assumed ones if IN has none. No file is overwritten.
    """
    from xface.detectors.card_editing import CardChanges
    from xface.detectors.conversion import convert
    from xface.wording import printable

    changes = CardChanges(classes=classes, positive=positive, preset=preset)
    made = convert(weights, out, arch, state_key, changes)
    say_notes(made.notes)
    click.echo(f"{printable(str(made.weights))}: {made.card.arch}, {made.parameters:,} parameters")
    click.echo(f"card {printable(str(made.card_file))}:")
    print_card(made.card)
    if made.assumed:
        name = printable(quote(str(made.weights)))
        click.echo(f"\nassumed, as nothing says it: {printable(made.assumed)}")
        click.echo(f"to correct it: xface card {name} --classes A,B --preset NAME")
