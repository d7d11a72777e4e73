"""`xface`: the group of commands; each is imported only when it runs."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from xface import __version__
from xface.errors import InterruptedRunError, UsageError, XFaceError

COMMANDS = {
    "explain": "Show which parts of a face a detector looks at.",
    "regions": "Sum a detector's maps over the regions of the face, without labels.",
    "predict": "Classify images as real or fake.",
    "evaluate": "Measure a detector on labelled images, with intervals.",
    "analyze": "Find out where a detector fails, and what it was looking at.",
    "trust": "Check which maps of a detector can be believed.",
    "report": "Draw the report of an analysis again, from its folder.",
    "train": "Train a detector from a config, or resume a run.",
    "models": "List the networks that can be restored, with their sizes and stages.",
    "layers": "List the layers of a network.",
    "methods": "List the attribution methods.",
    "card": "Show or edit the card of a weights file: classes, preprocessing, threshold.",
    "convert": "Write a checkpoint as clean safetensors with its card.",
    "summary": "Print a network's layers, shapes and parameters.",
    "doctor": "Check the installation, and say how to fix what is missing.",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; UsageError if one is empty, which as a path would mean `.`."""
        for before, word in zip(["xface", *args], args, strict=False):
            if re.fullmatch("(--[a-z-]+=)?", word):
                raise UsageError(f"the value after {(word or before)!r} is empty; give one, or omit it")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; Ctrl-C ends it as a shell expects, with one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nxface: stopped", err=True)
            ctx.exit(STOPPED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' one-line helps from COMMANDS."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


STOPPED = 130  # what a shell says of a command that Ctrl-C ended
STATUS = {UsageError: 2, InterruptedRunError: STOPPED}
"""Exit statuses: as click's for wrong usage, a shell's for what Ctrl-C ended, and 1 for all else."""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: xface explain --out results samples/fake.jpg",
)
@click.version_option(__version__, prog_name="xface")
def xface() -> None:
    """Show which parts of a face a CNN looks at when it classifies it as real or fake."""


def main() -> None:
    """Run the command line; an error on purpose is one message, and the exit status says of which kind."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that the terminal's encoding lacks
    try:
        xface()
    except XFaceError as error:
        click.echo(f"xface: {error}", err=True)
        sys.exit(next((status for kind, status in STATUS.items() if isinstance(error, kind)), 1))
