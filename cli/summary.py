"""`xface summary`."""

from __future__ import annotations

import click

from .layers import network
from .options import ARCH, STATE_KEY, WEIGHTS


@click.command(epilog="Example: xface summary --arch efficientnet_b0")
@ARCH
@WEIGHTS
@STATE_KEY
@click.option("--depth", default=3, show_default=True, help="How deeply nested modules are listed.")
def summary(arch: str | None, weights: str | None, state_key: str | None, depth: int) -> None:
    """Print a network's layers with output shapes and parameter counts (torchinfo's table)."""
    import torchinfo

    _, model, size = network(arch, weights, state_key)
    model.requires_grad_(True)  # a detector's weights are frozen, the table would call none trainable
    device = next(model.parameters()).device
    table = torchinfo.summary(
        model, (1, 3, *size), depth=depth, row_settings=("var_names",), verbose=0, device=device
    )
    click.echo(str(table))
