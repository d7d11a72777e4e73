"""`xface layers`."""

from __future__ import annotations

import click

from .options import ARCH, WEIGHTS


@click.command(epilog="Example: xface layers --arch resnet18")
@ARCH
@WEIGHTS
def layers(arch: str | None, weights: str | None) -> None:
    """List the layers of a network that maps can be made at, with their output's shape and stride.

    `*` marks the stages (`--layer all`), `**` the recommended layer.
    """
    from xface.models import feature_maps, load

    detector = load(weights or ("none" if arch else None), arch, "cpu")
    size = detector.card.preprocessing.size
    click.echo(f"{detector.arch.name}, input {size[0]}x{size[1]}")
    click.echo(f"{'':3}{'layer':<32}{'kind':<22}{'output':>14}  {'stride':>6}")
    for layer in feature_maps(detector.model, size):
        mark = (
            "**" if layer.name == detector.arch.layer else "*" if layer.name in detector.arch.stages else ""
        )
        shape = "x".join(map(str, layer.shape))
        click.echo(f"{mark:<3}{layer.name:<32}{layer.kind:<22}{shape:>14}  {layer.stride(size):>6g}")
