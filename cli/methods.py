"""`xface methods`."""

from __future__ import annotations

import textwrap

import click


@click.command(epilog="Example: xface explain --method gradcam++ --method occlusion samples/fake.jpg")
def methods() -> None:
    """List the attribution methods: names for --method, formulas and papers."""
    from xface.attribution import METHODS

    for name, entry in METHODS.items():
        place = "at a layer" if entry.layered else "at the input"
        click.echo(f"{name}: {entry.title}, {place}{' (core)' if entry.core else ''}")
        click.echo(textwrap.fill(entry.summary, 80, initial_indent="    ", subsequent_indent="    "))
        click.echo(f"    {entry.paper}")
