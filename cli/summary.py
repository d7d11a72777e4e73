"""`xface summary`."""

from __future__ import annotations

import click

from .options import ARCH, WEIGHTS


@click.command(epilog="Example: xface summary --arch efficientnet_b0")
@ARCH
@WEIGHTS
@click.option("--depth", default=3, show_default=True, help="How deeply nested modules are listed.")
def summary(arch: str | None, weights: str | None, depth: int) -> None:
    """Print a network's layers with output shapes and parameter counts (torchinfo's table)."""
    import torchinfo

    from xface.models import load

    detector = load(weights or ("none" if arch else None), arch, "cpu")
    detector.model.requires_grad_(
        True
    )  # a detector's weights are frozen, the table would call none trainable
    shape = (1, 3, *detector.card.preprocessing.size)
    table = torchinfo.summary(
        detector.model, shape, depth=depth, row_settings=("var_names",), verbose=0, device="cpu"
    )
    click.echo(str(table))
