"""Measure a finished training run on the test splits of its data, and bundle its weights with a card.

    xface train configs/resnet18.yaml --set 'data.train=[dfdc_pairs, stylegan_ffhq]'
    xface train configs/resnet18_whole.yaml --set 'data.train=[dfdc_pairs, stylegan_ffhq]'
    python weights/bundle.py runs/resnet18_whole dfdc_pairs stylegan_ffhq --sizes 176,208,240

Each data set is a folder with `manifest.csv` whose rows of the split `test` the run has not seen. The card
gets the area under the ROC curve of each, with its 95 % interval over groups. A network trained on crops of
enlarged or shrunk views sees objects best at a size of its own (Touvron et al. 2019): of `--sizes` that with
the highest mean AUC on the splits `val` is put on the card, before the tests.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import click

import xface
from xface.detectors import Detector
from xface.detectors.card import card_path, write_card
from xface.evaluation.evaluation import Evaluation
from xface.evaluation.labelled_sets import evaluate_set, read_sets
from xface.evaluation.thresholds import Threshold

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


def measured(detector: Detector, data: tuple[str, ...], split: str) -> list[Evaluation]:
    """The detector's scores on a split of each set, at the usual threshold."""
    half = Threshold(0.5, "usual")
    return [evaluate_set(detector, each, half, (), lambda done: None) for each in read_sets(data, split)]


def at_size(detector: Detector, size: int) -> Detector:
    """The same network, given pictures of another size."""
    preprocessing = replace(detector.card.preprocessing, size=(size, size))
    return replace(detector, card=replace(detector.card, preprocessing=preprocessing))


def best_size(detector: Detector, data: tuple[str, ...], sizes: list[int]) -> int:
    """The size with the highest mean AUC on the validation splits."""
    aucs = {
        size: mean(
            each.whole[0].metrics["auc"].value or 0 for each in measured(at_size(detector, size), data, "val")
        )
        for size in sizes
    }
    click.echo(f"mean validation AUC by size: {aucs}")
    return max(aucs, key=lambda size: aucs[size])


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--sizes", default="", help="Input sizes to choose from, in pixels; the run's if not given.")
@click.option("--name", help="What to call it; the architecture's name if not given.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent, show_default=False)
def main(run: Path, data: tuple[str, ...], sizes: str, name: str | None, out: Path) -> None:
    """Choose the size, score, then copy."""
    weights = run / "best.safetensors"
    detector = xface.load(weights)
    if sizes:
        detector = at_size(detector, best_size(detector, data, [int(size) for size in sizes.split(",")]))
    card, found = detector.card, scores(measured(detector, data, "test"))
    target = out / f"{name or card.arch}.safetensors"
    shutil.copyfile(weights, target)
    kept = {key: value for key, value in card.scores.items() if key in ("epoch", "validation_auc")}
    write_card(replace(card, scores={**kept, **found}, notes=NOTES), card_path(target))
    click.echo(f"{target}: {found}")


if __name__ == "__main__":
    main()
