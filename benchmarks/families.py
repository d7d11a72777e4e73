"""What the families reach in the same small budget.

    python benchmarks/families.py DATA [--size N] [--epochs N] [--seed N] [--out FILE]

DATA is a manifest with the splits train, val and test. Each family starts from random weights and gets the
same recipe, epochs and pictures; the epoch with the best validation AUC is scored on the test split, with a
95 % interval from the bootstrap. One seed: differences within the intervals say nothing. Seconds are the
median epoch's, validation included.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from xface.detectors import load
from xface.evaluation.labelled_sets import evaluate_set, read_sets
from xface.evaluation.thresholds import Threshold
from xface.networks.blueprints import parameter_count
from xface.training import Config, train
from xface.training.config import FOLLOWED

CURVES = "validation_auc", "train_loss", "validation_loss"


def settings(data: str, **others: Any) -> dict[str, Any]:
    recipe = {
        "optimizer": {"type": "AdamW", "lr": 5e-4, "weight_decay": 1e-2},
        "schedule": {"type": "OneCycleLR"},
        "model": {"whitened": True},
        "augmentations": ["flip", "colour"],
        "precision": "bf16-mixed",
        "channels_last": True,
        "batch_size": 32,
        "num_workers": 1,
    }
    return {**recipe, "data": {"train": data, "split": {"by": "manifest"}}, **others}


def measured(data: str, values: dict[str, Any]) -> dict[str, Any]:
    """Train once and score the best weights on the test split."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(Config.model_validate({**values, "prefix": f"{folder}/run"}), click.echo)
        detector = load(run.weights, device=values["device"])
        [test] = read_sets([data], "test")
        found = evaluate_set(detector, test, Threshold(0.5, "usual"), (), lambda done: None)
    return {
        "arch": detector.arch.name,
        "parameters": parameter_count(detector.model),
        "seconds_per_epoch": round(statistics.median(row["seconds"] for row in run.rows), 1),
        "best_epoch": int(run.best["epoch"]),
        "auc": found.whole[0].metrics["auc"].to_json(),
        "curves": {name: [round(row[name], 4) for row in run.rows] for name in CURVES},
    }


def write(result: dict[str, Any], out: Path | None) -> None:
    """Print the result, with the machine that it was measured on, and keep it."""
    machine = {"device": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    text = json.dumps({"machine": machine, **result}, indent=1)
    click.echo(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


@click.command(help=__doc__)
@click.argument("data")
@click.option("--size", default=96, show_default=True, help="Input size of the families, in pixels.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=Path)
def main(data: str, size: int, epochs: int, seed: int, device: str, out: Path | None) -> None:
    same = {"seed": seed, "device": device}
    families = {}
    for family in FOLLOWED:
        values = settings(data, network=family, input_size=size, num_epochs=epochs, **same)
        families[family] = measured(data, values)
        click.echo(f"{family}: {families[family]['auc']}")
    write({"budget": {"size": size, "epochs": epochs, "seed": seed}, "families": families}, out)


if __name__ == "__main__":
    main()
