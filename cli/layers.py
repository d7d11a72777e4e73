"""`xface layers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import ARCH, STATE_KEY, WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from xface.networks import Architecture

EPILOG = """\b
Examples:
  xface layers --arch resnet18
  xface layers --arch timm/convnext_tiny
  xface layers --weights mine.pth
"""


@click.command(epilog=EPILOG)
@ARCH
@WEIGHTS
@STATE_KEY
def layers(arch: str | None, weights: str | None, state_key: str | None) -> None:
    """List the layers of a network that maps can be made at.

    Each with its output's shape (channels, height, width), its stride in input pixels, and how many cells
    its map has. `*` marks the stages (`--layer all`), `**` the recommended layer.
    """
    from xface.feature_maps.layers import feature_maps
    from xface.wording import aligned

    entry, model, size = network(arch, weights, state_key)
    found = feature_maps(model, size)
    if not all(layer.certain for layer in found):
        # Where shapes don't tell, the network is tried: that takes weights, any weights.
        found = feature_maps(entry.build(2), size)
    click.echo(f"{entry.name}, input {size[0]}x{size[1]}")
    rows = [("   layer", "kind", "output", "stride", "cells")]
    for layer in found:
        mark = "**" if layer.name == entry.layer else "*" if layer.name in entry.stages else ""
        stride = f"{layer.stride(size):.2f}".rstrip("0").rstrip(".")
        shape = "x".join(map(str, layer.shape))
        rows.append((f"{mark:<3}{layer.name}", layer.kind, shape, stride, str(layer.cells)))
    click.echo(aligned(rows, left=2))


def network(
    arch: str | None, weights: str | None, state_key: str | None
) -> tuple[Architecture, nn.Module, tuple[int, int]]:
    """The network of the three options and its input's size; on the meta device if untrained."""
    from xface.detectors import load
    from xface.detectors.loading import DEFAULT_ARCH, UNTRAINED
    from xface.networks import architecture
    from xface.networks.blueprints import on_meta, usual_size

    if weights == UNTRAINED or (arch and weights is None):
        entry = architecture(arch or DEFAULT_ARCH)
        return entry, on_meta(entry), usual_size(entry.preprocessing, entry)
    detector = load(weights, arch, "cpu", state_key)
    return detector.arch, detector.model, usual_size(detector.card.preprocessing, detector.arch)
