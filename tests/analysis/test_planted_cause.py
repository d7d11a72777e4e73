"""A cause that is planted in pictures is named: faces are darkened at random, and the findings say so."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.pipeline import analyze
from xface.analysis.plan import plan_analysis
from xface.data.labelled_pictures import read_samples
from xface.results import CONTRASTS

PAIRS, PART, GAIN = 150, 1 / 3, 0.3


@pytest.fixture(scope="module")
def darkened(shared_data, tmp_path_factory):
    """Pairs of DFDC's test split, a third of the pictures at 30 % of their light; and which these are."""
    folder, chance = tmp_path_factory.mktemp("darkened"), np.random.default_rng(0)
    table = read_samples(shared_data / "dfdc_pairs").of_split("test").table.iloc[: 2 * PAIRS]
    dark, rows = chance.random(len(table)) < PART, []
    for number, (path, label, group) in enumerate(
        zip(table["path"], table["label"], table["group"], strict=True)
    ):
        picture = Image.open(path)
        if dark[number]:
            picture = Image.eval(picture, lambda level: round(GAIN * level))
        picture.save(folder / f"{number:04}.png")
        rows.append((f"{number:04}.png", label, group))
    pd.DataFrame(rows, columns=["path", "label", "group"]).to_csv(folder / "manifest.csv", index=False)
    return folder, dark


@pytest.mark.slow
def test_darkness_that_was_planted_is_named(darkened, tmp_path):
    folder, dark = darkened
    plan = plan_analysis(xface.load("resnet18", device="cpu"), read_data(str(folder)))
    run = analyze(plan, tmp_path / "run", workers=0)
    images = pd.read_parquet(run / "images.parquet")
    wrong = images["outcome"].isin(["FP", "FN"])
    assert wrong[dark].mean() > wrong[~dark].mean() + 0.1  # it is a cause
    found = json.loads((run / "findings.json").read_text())
    differs = [row for row in found["attributes"] if row["attribute"] == "brightness" and row["finding"]]
    rows = [row for row in differs if row["contrast"] in CONTRASTS]
    assert rows
    # darkened pictures lose sharpness too, and which of the two stands first is a matter of ties
    assert any(" darker" in each["text"] for each in found["sentences"])
    for row in rows:
        assert row["difference"]["high"] < 0
        one, other = {
            "FP-TN": ("False positives", "true negatives"),
            "FN-TP": ("False negatives", "true positives"),
        }[row["contrast"]]
        [sentence] = [
            each["text"]
            for each in found["sentences"]
            if (each["about"], each["contrast"], each["name"]) == ("attribute", row["contrast"], "brightness")
            and not each["top"]
        ]
        assert sentence.startswith(f"{one} are darker than {other}: brightness")
        page = (run / "report" / "index.html").read_text(encoding="utf-8")
        assert sentence.partition(":")[0] in page
