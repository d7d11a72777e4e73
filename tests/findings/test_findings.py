"""What is concluded from tables: planted causes are named, and nothing is found where nothing is."""

import json

import numpy as np
import pandas as pd
import pytest

from xface.findings.columns import attribute_columns, on_the_face, region_columns
from xface.findings.findings import conclude
from xface.findings.health import check_health
from xface.results import CONTRASTS, LIKENESSES
from xface.runs.attributes import attributes_of
from xface.statistics.effects import ALPHA, unevenness

REGIONS = ("right_eye", "left_eye", "mouth", "nose", "background")
AREAS = np.array([0.05, 0.05, 0.1, 0.1, 0.7])
MANIFEST = {
    "threshold": {"value": 0.5, "origin": "default"},
    "kinds": [{"method": "gradcam", "layer": "layer4", "rule": "published"}],
}


def tables(count=900, seed=0, dark=0.0, mouth=0.0, group=3, **attributes):
    """A run's tables: `dark` faces are wrong more often, errors' maps lie on the `mouth`; sharpness follows
    brightness by 0.6."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 2 == 0
    brightness = rng.normal(size=count)
    wrong = rng.random(count) < 1 / (1 + np.exp(1.5 + dark * brightness))
    images = pd.DataFrame({
        "row": np.arange(count), "image": [f"{i}.jpg" for i in range(count)],
        "label": np.where(truth, "fake", "real"), "group": [f"video{i // group}" for i in range(count)],
        "sha256": [f"{i:064x}" for i in range(count)], "status": "ok", "reason": "",
        "score": np.where(truth ^ wrong, 0.5, 0.0) + 0.49 * rng.random(count),
        "outcome": np.select([truth & ~wrong, truth & wrong, wrong], ["TP", "FN", "FP"], "TN"),
        "brightness": 0.4 + 0.1 * brightness,
        "sharpness": 300 + 60 * (0.6 * brightness + 0.8 * rng.normal(size=count)),
        "face_size": rng.normal(180, 20, count), **attributes,
    })  # fmt: skip
    weight = AREAS * rng.gamma(4, 0.25, (count, len(REGIONS)))
    weight[:, 2] *= 1 + mouth * wrong
    return images, region_table(images, weight / weight.sum(axis=1, keepdims=True))


def region_table(images, shares, method="gradcam", layer="layer4"):
    times = len(REGIONS)
    return pd.DataFrame({
        "row": np.repeat(images["row"].to_numpy(), times),
        "image": np.repeat(images["image"].to_numpy(), times),
        "method": method, "layer": layer, "status": "ok", "region": np.tile(REGIONS, len(images)),
        "share": shares.ravel(), "lift": (shares / AREAS).ravel(), "area": np.tile(AREAS, len(images)),
        "face_share": np.nan, "face_lift": np.nan, "coarse": np.tile(AREAS < 0.1, len(images)),
    })  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    return tables(dark=1.2, mouth=1.0)


@pytest.fixture(scope="module")
def found(planted):
    return conclude(*planted, MANIFEST)


def about(found, what):
    return [sentence for sentence in found.sentences if sentence.about == what]


def test_the_planted_cause_is_named_and_not_what_follows_it(found, planted):
    rows = {(row.name["attribute"], row.contrast): row for row in found.attributes}
    assert rows["brightness", "FP-TN"].finding
    assert rows["sharpness", "FP-TN"].finding  # alone it does differ
    assert [row.attribute for row in found.regression.rows if row.finding] == ["brightness"]
    assert "true class is held constant" in found.regression.note
    assert [found.regressions[contrast].outcome for contrast in CONTRASTS] == ["FP", "FN"]
    below = [each for each in about(found, "attribute") if not each.top]
    first, *others = [each for each in below if each.contrast == "FP-TN"]
    images, _ = planted
    one, other = (images["brightness"][images["outcome"] == each].mean() for each in ("FP", "TN"))
    start = f"False positives are darker than true negatives: brightness {one:.2f} against {other:.2f}"
    assert first.text.startswith(f"{start}, difference {one - other:.2f} (")
    assert (
        "this also holds with the other attributes held constant (odds ratio per standard deviation 0."
        in first.text
    )
    assert [each.name for each in others] == ["sharpness"]
    assert "but with the other attributes held constant there is no independent effect" in others[0].text
    [regression] = about(found, "regression")
    assert "one standard deviation more brightness multiplies the odds of an error by 0." in regression.text


def test_a_run_brings_the_words_of_attributes_that_xface_does_not_have(planted):
    images, regions = planted
    words = {"label": "how red", "unit": "", "more": "redder", "less": "paler"}
    manifest = {**MANIFEST, "attributes": dict.fromkeys(("redness", "sharpness", "face_size"), words)}
    found = conclude(images.rename(columns={"brightness": "redness"}), regions, manifest)
    top, *_ = about(found, "attribute")
    assert top.text.startswith(
        "False positives and false negatives are paler than correctly classified images"
    )
    assert [row.attribute for row in found.regression.rows if row.finding] == ["redness"]
    assert [condition.attribute for condition in found.slices[0].conditions] == ["redness"]


def test_examples_are_the_errors_that_show_it_most_one_of_a_group(found, planted):
    images, _ = planted
    first = next(each for each in about(found, "attribute") if not each.top)
    shown = images.set_index("row").loc[list(first.rows)]
    assert len(shown) == 12
    assert set(shown["outcome"]) == {CONTRASTS[first.contrast][0]}
    assert shown["group"].is_unique
    assert shown["brightness"].is_monotonic_increasing


def test_the_planted_region_is_found_and_said(found):
    rows = [row for row in found.contrasts if row.name["region"] == "mouth"]
    assert all(row.finding and row.p_all <= ALPHA for row in rows if row.contrast in LIKENESSES)
    assert all(row.raw.finding and row.delta > 0.3 and row.difference.value > 0.5 for row in rows)
    said = [each.text for each in about(found, "region") if each.name == "mouth" and each.contrast == "FP-TN"]
    assert said[0].startswith(
        "For false positives, gradcam at layer4 puts more weight on the mouth than for true negatives: lift"
    )


def test_the_primary_contrast_is_the_part_on_the_face(found, planted):
    images, regions = planted
    on_face = 1 - regions[regions["region"] == "background"].set_index("row")["share"]
    means = [on_face[images["row"][images["outcome"] == each]].mean() for each in ("FP", "TP")]
    result = found.primary.result
    assert [each.value for each in result.means] == pytest.approx(means)
    assert (result.q, result.finding) == (None, result.p <= 0.05)
    assert "gradcam at layer4" in found.primary.text


def test_region_means_are_those_of_the_table(found, planted):
    images, regions = planted
    joined = regions.merge(images[["row", "outcome"]], on="row")
    slow = joined.groupby(["outcome", "region"])["lift"].mean()
    assert len(found.regions) == 4 * len(REGIONS)
    for row in found.regions:
        assert row.lift.value == pytest.approx(slow[row.outcome, row.region])
        assert row.lift.low < row.lift.value < row.lift.high
        assert row.n == (images["outcome"] == row.outcome).sum()


def test_the_slice_is_the_dark_end_and_reported_once(found):
    worst, *others = found.slices
    assert [condition.attribute for condition in worst.conditions] == ["brightness"]
    assert worst.conditions[0].low is None
    assert worst.rate.low > worst.rest.high
    assert not [each for each in others if each.finding]
    assert "brightness at most" in about(found, "slice")[0].text


def test_where_nothing_is_nothing_is_found_and_said_so():
    found = conclude(*tables(seed=4), MANIFEST)
    texts = [each.text for each in about(found, "none")]
    assert {each.about for each in found.sentences} == {"none", "same"}
    assert not [each for each in found.sentences if each.top]
    assert any(
        text.startswith("False positives against true negatives: nothing significant in 5 comparisons of")
        for text in texts
    )
    assert len(texts) + len(about(found, "same")) == 10  # two tables of four contrasts, regression, slices


def without(images, outcome):
    return images[images["outcome"] != outcome]


BARE = {
    "no table": lambda images: images.iloc[:0],
    "one image": lambda images: images.iloc[:1],
    "no false positive": lambda images: without(images, "FP"),
    "only right": lambda images: without(without(images, "FP"), "FN"),
    "one truth": lambda images: without(without(images, "TP"), "FN"),
    "one group": lambda images: images.assign(group="all"),
    "no attribute": lambda images: images.assign(brightness=np.nan, sharpness=np.nan, face_size=np.nan),
    "infinite": lambda images: images.assign(brightness=np.inf),
    "constant": lambda images: images.assign(brightness=0.5, sharpness=1e9, face_size=0.0),
    "nothing scored": lambda images: images.assign(
        outcome="", score=np.nan, status="unreadable", reason="cut"
    ),
}


@pytest.mark.parametrize("bare", BARE)
def test_tables_that_show_nothing_are_concluded_too(bare):
    images, regions = tables(count=120, group=1)
    left = BARE[bare](images)
    found = conclude(left, regions[regions["row"].isin(left["row"])], MANIFEST)
    json.dumps(found.to_json(), allow_nan=False)
    assert not [row for row in (*found.contrasts, *found.attributes) if row.finding and bare == "one group"]
    assert found.summary["images"] == len(left)
    assert found.summary["scored"] == (left["outcome"] != "").sum()


def test_undefined_maps_and_failed_images_are_counted_and_warned_of():
    images, regions = tables(count=400, group=1)
    wrong_real = images.index[images["outcome"] == "FP"][:15]
    images.loc[wrong_real, ["status", "reason"]] = ["no_face", "no face found"]
    zero = images.index[images["outcome"] == "TN"][:3]
    regions.loc[regions["row"].isin(wrong_real), "status"] = "no_face"
    regions.loc[regions["row"].isin(zero), "status"] = "zero"
    images.loc[390:, ["status", "reason", "outcome", "score"]] = ["unreadable", "cut off", "", np.nan]
    health = check_health(images, regions)
    rows = {row.what: row for row in health.statuses}
    false_positives = int((images["outcome"] == "FP").sum())
    assert rows["no_face"].by_outcome["FP"] == (15, false_positives)
    assert rows["no_face"].by_outcome["TP"][0] == 0
    assert rows["no_face"].uneven
    assert rows["zero map"].by_outcome["TN"] == (3, int((images["outcome"] == "TN").sum()))
    assert rows["zero map"].by_outcome["FP"] == (0, false_positives - 15)
    assert rows["unreadable"].by_outcome == {}
    assert rows["unreadable"].by_label == {"fake": (5, 200), "real": (5, 200)}
    assert any(
        text.startswith("no face is not evenly distributed: ") and f"15 of {false_positives}" in text
        for text in health.warnings
    )
    assert {(row["region"], row["part"]) for row in health.coarse} == {("right_eye", 1.0), ("left_eye", 1.0)}
    assert any("gradcam layer4 is too coarse for right eye, left eye" in text for text in health.warnings)


def test_images_left_out_are_told_by_reason_not_by_file():
    images, regions = tables(count=60, group=1)
    names = [f"it's/{row}.jpg" for row in range(60)]
    reasons = [f"cannot read {name!r}: there is no such file" for name in names]
    images = images.assign(image=names, reason=reasons, status="missing", outcome="", score=np.nan)
    images.loc[:9, ["status", "reason"]] = ["no_face", "no face found"]
    missing, faceless = conclude(images, regions.iloc[:0], MANIFEST).summary["excluded"]
    assert (missing["status"], missing["reason"]) == ("missing", "cannot read: there is no such file")
    assert (missing["count"], missing["by_label"]) == (50, {"fake": 25, "real": 25})
    assert missing["example"] == "it's/10.jpg"
    assert (faceless["reason"], faceless["count"]) == ("no face found", 10)


def test_an_attribute_beside_no_regression_is_said_not_to_be_adjusted():
    images, regions = tables(dark=1.2)
    more = {f"{name}_openness": np.random.default_rng(1).normal(size=900) for name in ("eye", "mouth")}
    images = images.assign(**more, sharpness=2 * images["brightness"])
    found = conclude(images, regions, MANIFEST)
    first = {each.name: each.text for each in about(found, "attribute") if each.contrast == "FP-TN"}
    assert first["brightness"].endswith("not adjusted for the other attributes (left out of the regression).")
    errors = images[images["outcome"] == "FP"].drop_duplicates("group").nsmallest(12, "brightness")
    few = pd.concat([without(images, "FP"), errors])
    alone = conclude(few, regions, MANIFEST)
    assert alone.regressions["FP-TN"].rows == ()
    [text] = [s.text for s in about(alone, "attribute") if (s.contrast, s.name) == ("FP-TN", "brightness")]
    assert "; not adjusted for the other attributes (regression not fitted: " in text


def test_what_is_not_tested_is_said_once_and_one_is_no_plural():
    found = conclude(*tables(count=60, group=30), MANIFEST)
    texts = [each.text for each in about(found, "none")]
    few = next(row.groups for row in found.contrasts if row.contrast == "FP-TN")
    lacking = f"{few[0]} of false positives, {few[1]} of true negatives"
    assert (
        f"False positives against true negatives: regions not tested (fewer than 10 groups: {lacking})."
        in texts
    )
    one = conclude(*tables(count=60, group=60), MANIFEST)
    assert "false positives: only 1 group, too few to compare" in one.health.warnings


def test_unevenness_is_chi_squared_or_fishers():
    from scipy.stats import chi2_contingency, fisher_exact

    counts = [(20, 100), (10, 120), (30, 90)]
    assert unevenness(counts) == pytest.approx(chi2_contingency([(a, n - a) for a, n in counts]).pvalue)
    assert unevenness([(1, 9), (4, 8)]) == pytest.approx(fisher_exact([[1, 8], [4, 4]]).pvalue)
    assert 0.5 < unevenness([(1, 9), (1, 8), (1, 10)]) <= 1
    assert unevenness([(0, 2), (1, 2), (0, 1)]) == pytest.approx(1)
    assert unevenness([(3, 9), (0, 0)]) is None


def test_columns_are_put_at_their_images_in_the_order_of_the_kinds():
    images, regions = tables(count=6)
    other = regions.assign(method="vanilla", layer="", lift=-regions["lift"])
    both = pd.concat([regions, other]).sample(frac=1, random_state=0)
    both = both[~((both["row"] == 2) & (both["method"] == "vanilla"))]
    kinds = [{"method": "vanilla", "layer": ""}, {"method": "gradcam", "layer": "layer4"}]
    found = region_columns(images.iloc[::-1], both, "lift", kinds)
    assert [name["method"] for name in found.names] == ["vanilla"] * 5 + ["gradcam"] * 5
    nose = found.where(method="gradcam", region="nose").values[:, 0]
    expected = regions[regions["region"] == "nose"].set_index("row")["lift"]
    assert nose.tolist() == expected.iloc[::-1].tolist()
    assert np.isnan(found.where(method="vanilla").values[3]).all()
    face = on_the_face(region_columns(images, regions, "share", kinds))
    sums = regions[regions["region"] != "background"].groupby("row")["share"].sum()
    assert face.values[:, 0] == pytest.approx(sums.to_numpy())
    assert len(attribute_columns(images, tuple(attributes_of({}))).names) == 3
