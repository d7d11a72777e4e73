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
    found = feature_maps(detector.model, size)
    name_width = max(len(layer.name) for layer in found) + 2
    kind_width = max(len(layer.kind) for layer in found) + 1
    click.echo(f"{'':3}{'layer':<{name_width}}{'kind':<{kind_width}}{'output':>11}{'stride':>8}")
    for layer in found:
        mark = (
            "**" if layer.name == detector.arch.layer else "*" if layer.name in detector.arch.stages else ""
        )
        shape = "x".join(map(str, layer.shape))
        names = f"{mark:<3}{layer.name:<{name_width}}{layer.kind:<{kind_width}}"
        click.echo(f"{names}{shape:>11}{layer.stride(size):>8g}")
