"""Errors by columns of the data: the planted value is named, and what cannot be tested is said."""

import json

import numpy as np
import pandas as pd
import pytest
from test_findings import MANIFEST, tables

from xface.findings.breakdowns import break_down, breakdown_sentences
from xface.findings.columns import Judged
from xface.findings.findings import conclude
from xface.runs.schema import FindingsRecord
from xface.statistics.metrics import measure
from xface.statistics.parts import parts_of


def scored(count=1200, seed=0):
    """Scored images in groups of four; forgeries by `neural` are often missed, else nothing differs."""
    rng = np.random.default_rng(seed)
    codes, fake = np.arange(count) // 4, np.arange(count) % 2 == 0
    groups = codes[-1] + 1
    kind = np.where(fake, rng.choice(["swap", "gan", "neural"], groups)[codes], "")
    z = np.where(fake, 1.0, -1.0) - 1.5 * (kind == "neural") + rng.normal(0, 1, count)
    called = z >= 0
    return pd.DataFrame({
        "row": np.arange(count), "group": [f"g{code}" for code in codes], "score": 1 / (1 + np.exp(-z)),
        "outcome": np.where(called == fake, np.where(fake, "TP", "TN"), np.where(fake, "FN", "FP")),
        "kind": kind, "device": rng.choice(["phone", "camera"], groups)[codes],
        "person": [f"p{code % 60}" for code in codes], "age": rng.integers(18, 80, groups)[codes].astype(str),
        "site": "home", "rare": np.where(codes < 4, "one", "two"),
    })  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return scored()


@pytest.fixture(scope="module")
def judged(images):
    return Judged.of(images, 0.5)


@pytest.fixture(scope="module")
def found(images, judged):
    return break_down(images, ["kind", "device", "person", "age", "site", "rare"], judged)


@pytest.fixture(scope="module")
def parts(found):
    return {(each.column, row.part.words): row for each in found for row in each.parts}


def test_the_planted_value_is_told_first_and_nothing_of_columns_that_do_not_matter(found, judged):
    sentences = list(breakdown_sentences(found, judged))
    told = [each for each in sentences if each.about == "by"]
    assert told[0].text.startswith("With kind 'neural', the false negative rate is ")
    assert {each.name for each in told} == {"by kind"}
    assert all(judged.outcomes[list(each.rows)].tolist() == ["FN"] * 12 for each in told)
    silent = {each.name: each.text for each in sentences if each.about == "none"}
    assert silent["by device"] == "By device: nothing significant in 4 comparisons of error rates."
    assert silent["by site"] == "By site: not tested; all images have one value: nothing to compare."
    assert silent["by rare"] == "By rare: not tested; fewer than 10 groups: 4 elsewhere."


def test_rates_and_scores_are_those_of_the_images(images, parts):
    neural, fake = images["kind"] == "neural", images["kind"] != ""
    part = parts["kind", "neural"]
    alarms, misses = part.rates
    assert (part.n, part.groups) == (neural.sum(), images["group"][neural].nunique())
    assert (alarms.n, alarms.rate.value, alarms.note) == (0, None, "no such image here; not tested")
    assert misses.rate.value == pytest.approx((images["outcome"][neural] == "FN").mean())
    assert misses.rest.value == pytest.approx((images["outcome"][fake & ~neural] == "FN").mean())
    assert misses.rate.low < misses.rate.value < misses.rate.high < 1
    assert part.against_all
    against = neural | ~fake
    auc = measure(fake[against], images["score"][against], metrics=["auc"])["auc"].value
    assert part.auc.value == pytest.approx(auc)
    assert not parts["device", "phone"].against_all


def test_rare_values_are_together_and_numbers_in_quarters(images, parts, found):
    person, age = (each for each in found if each.column in ("person", "age"))
    assert person.note == "of 60 values the 10 most frequent are shown one by one"
    assert parts["person", "50 other values"].rates[0].note == "several values together; not tested"
    assert sum(row.n for row in person.parts) == len(images)
    assert (age.note, [row.part.kind for row in age.parts]) == ("numbers, in quarters", ["numbers"] * 4)
    assert sum(row.n for row in age.parts) == len(images)


@pytest.mark.parametrize(("texts", "words"), [
    ([], []),
    (["", ""], ["no x"]),
    (["b", "a", "b", ""], ["b", "a", "no x"]),
    ([*map(str, range(1990, 2021)), ""], ["x at most 1998", "x above 1998 up to 2005",
                                          "x above 2005 up to 2012", "x above 2012", "no x"]),
    (["0", "23", "40"], ["0", "23", "40"]),  # few numbers are values
    ([f"{number:03}" for number in range(11)], [*(f"{number:03}" for number in range(10)), "1 other value"]),
    ([*map(str, range(10)), "inf"], [*map(str, range(10)), "1 other value"]),
])  # fmt: skip
def test_parts_of_a_column(texts, words):
    parts = parts_of("x", texts)
    assert [part.words for part in parts] == words
    assert np.array([part.inside for part in parts]).sum(axis=0).tolist() == (
        [1] * len(texts) if texts else 0
    )


def test_images_of_one_class_or_none_are_broken_down_too(images):
    for some in (images[images["kind"] == "gan"], images[:0]):
        [found] = break_down(some.reset_index(drop=True), ["device"], Judged.of(some, 0.5))
        assert [row.auc.value for row in found.parts] == [None] * len(found.parts)
    assert found.note == "no image has a score"


def test_they_are_in_the_findings_of_a_run_with_the_thresholds_that_were_asked_for():
    made, regions = tables(450, device=np.repeat(["phone", "camera", ""], 150))
    wishes = [{"false_positive_rate": 0.2}, {"false_positive": 5, "false_negative": 1}]
    manifest = {**MANIFEST, "by": ["device"], "proposals": wishes}
    written = json.loads(json.dumps(conclude(made, regions, manifest).to_json()))
    FindingsRecord.model_validate(written)
    [breakdown] = written["breakdowns"]
    assert [part["words"] for part in breakdown["parts"]] == ["camera", "phone", "no device"]
    one, other = written["proposals"]
    assert one["text"].startswith("Threshold for a false positive rate of at most 20 %: 0.")
    assert other["text"].startswith("Threshold where false positives and negatives cost 5:1 and 50 % are")
    assert one["false_positive_rate"]["low"] < 0.2 < one["false_positive_rate"]["high"]
    assert [each["asked"] for each in written["proposals"]] == wishes
    assert sum(one["groups"]) == 150
