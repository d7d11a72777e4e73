"""`xface models`."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from .batch import print_json


@click.command(epilog="Example: xface models --json | jq 'select(.parameters < 1e6)'")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per network, a line each, on stdout.")
def models(as_json: bool) -> None:
    """List the networks for --arch: parameters with two classes, input size, layer for Grad-CAM, stages.

    A network with bundled weights works without --weights.
    """
    from xface.networks import ARCHITECTURES

    for name in ARCHITECTURES:
        entry = _described(name)
        print_json(entry) if as_json else _print(entry)
    if not as_json:
        _print_others()


def _described(name: str) -> dict[str, Any]:
    from xface.detectors.bundled import bundled
    from xface.detectors.card import card_path, read_card
    from xface.networks import architecture
    from xface.networks.blueprints import on_meta, parameter_count, usual_size

    arch = architecture(name)
    weights = [known for known, path in bundled().items() if read_card(card_path(path)).arch == name]
    return {
        "arch": name,
        "parameters": parameter_count(on_meta(arch)),
        "input": list(usual_size(arch.preprocessing, arch)),
        "layer": arch.layer,
        "stages": list(arch.stages),
        "weights": weights,
    }


def _print(entry: dict[str, Any]) -> None:
    height, width = entry["input"]
    weights = f"  weights: {', '.join(entry['weights'])}" if entry["weights"] else ""
    click.echo(f"{entry['arch']:<20}{entry['parameters']:>12,}  {height}x{width}{weights}")
    text = f"layer {entry['layer']}; stages {' '.join(entry['stages'])}"
    click.echo(textwrap.fill(text, 80, initial_indent="    ", subsequent_indent="        "))


def _print_others() -> None:
    text = (
        "timm/NAME stands for any of timm's networks that classify images, as in `xface layers "
        "--arch timm/convnext_tiny`; their names are among timm.list_models(). Which network a weights file "
        "holds is read off its keys and shapes; where several fit, --arch says which."
    )
    click.echo(f"\n{textwrap.fill(text, 80, break_on_hyphens=False)}")
