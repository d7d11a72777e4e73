"""Measure a finished training run on the test splits of its data, and bundle its weights with a card.

    xface train configs/resnet18.yaml --set 'data.train=[dfdc_pairs, stylegan_ffhq]'
    python weights/bundle.py runs/resnet18 dfdc_pairs stylegan_ffhq [--name resnet18] [--out FOLDER]

Each data set is a folder with `manifest.csv` whose rows of the split `test` the run has not seen. The card
gets the area under the ROC curve of each, with its 95 % interval over groups.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import click

from xface.analysis.evaluation import Evaluation
from xface.analysis.labelled_sets import evaluate_set, read_sets
from xface.analysis.thresholds import Threshold
from xface.models import load, read_card
from xface.models.card import card_path, write_card

SHOWN = "auc", "accuracy", "eer"
NOTES = (
    "For research and demonstrations, not evidence about any picture. It has seen one set of face swaps "
    "(DFDC, chosen for visible ones) and one generator (StyleGAN against FFHQ), in crops of 224 to 256 "
    "pixels; on other manipulations, generators, crops and compressions nothing was measured. The DFDC split "
    "is by video: the same actors are in training and test. Scores are not calibrated. FFHQ is CC BY-NC-SA, "
    "DFDC's terms are Kaggle's: for research only."
)


def scores(evaluations: list[Evaluation]) -> dict[str, float]:
    """Of each set the number of images, and metrics with the ends of their intervals."""
    found: dict[str, float] = {}
    for each in evaluations:
        name, summary = each.data.partition(",")[0], each.whole[0]
        found[f"{name}_test_images"] = summary.count
        for metric in SHOWN:
            estimate = summary.metrics[metric].to_json()
            ends = {"": estimate["value"], "_low": estimate["low"], "_high": estimate["high"]}
            found |= {
                f"{name}_test_{metric}{end}": round(value, 4)
                for end, value in ends.items()
                if value is not None
            }
    return found


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--name", help="What to call it; the architecture's name if not given.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent, show_default=False)
def main(run: Path, data: tuple[str, ...], name: str | None, out: Path) -> None:
    """Score, then copy."""
    weights = run / "best.safetensors"
    detector, card = load(weights), read_card(card_path(weights))
    evaluations = [
        evaluate_set(detector, each, Threshold(0.5, "usual"), (), lambda done: None)
        for each in read_sets(data, "test")
    ]
    target = out / f"{name or card.arch}.safetensors"
    shutil.copyfile(weights, target)
    kept = {key: value for key, value in card.scores.items() if key in ("epoch", "validation_auc")}
    write_card(replace(card, scores={**kept, **scores(evaluations)}, notes=NOTES), card_path(target))
    click.echo(f"{target}: {scores(evaluations)}")


if __name__ == "__main__":
    main()
