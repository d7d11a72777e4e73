"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

ARCH = click.option(
    "--arch",
    metavar="NAME",
    help="The network's architecture; recognised from the weights where there are any.",
)
WEIGHTS = click.option(
    "--weights",
    metavar="FILE|NAME|none",
    help="A checkpoint, the name of a bundled detector (default: meso4), or `none` for an untrained network.",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute."
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per image, a line each, on stdout."
)
IMAGES = click.argument("images", nargs=-1, required=True, metavar="IMAGE...")


def detector_options(command: F) -> F:
    """Add --arch, --weights and --device."""
    return ARCH(WEIGHTS(DEVICE(command)))
