"""What attention does for cbam_resnet: its curves with and without.

    python benchmarks/attention.py DATA [--epochs N] [--batches N] [--depth N] [--seed N] [--out FILE]

DATA is a manifest with the splits train, val and test. Both networks have the same seed, recipe, order of
pictures and augmentations. An epoch ends after `--batches` batches of 32, so that a machine without a GPU can
do with 370 million parameters at all. One seed: small differences say nothing.
"""

from __future__ import annotations

from pathlib import Path

import click
from families import measured, settings, write


@click.command(help=__doc__)
@click.argument("data")
@click.option("--epochs", default=6, show_default=True)
@click.option("--batches", type=int, help="All of the data if not given.")
@click.option("--depth", default=4, show_default=True, help="Blocks: 4 or 8.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=Path)
def main(
    data: str, epochs: int, batches: int | None, depth: int, seed: int, device: str, out: Path | None
) -> None:
    found = {}
    for name, attention in (("with", True), ("without", False)):
        values = settings(
            data,
            network="cbam_resnet",
            options={"depth": depth, "attention": attention},
            num_epochs=epochs,
            limit=batches,
            seed=seed,
            device=device,
        )
        found[name] = measured(data, values)
        click.echo(f"{name} attention: {found[name]['auc']}")
    write(
        {"budget": {"epochs": epochs, "batches": batches, "depth": depth, "seed": seed}, "attention": found},
        out,
    )


if __name__ == "__main__":
    main()
