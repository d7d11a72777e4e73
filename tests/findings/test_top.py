"""The top of the findings: what stands against all that was tested, told in three sentences at most."""

import numpy as np
import pytest
from test_findings import MANIFEST, about, region_table, tables

from xface.findings.columns import BACKGROUND
from xface.findings.contrasts import Contrast
from xface.findings.findings import conclude
from xface.findings.top import against, by_error, places, with_p_all
from xface.results import CONTRASTS, LIKENESSES
from xface.runs.schema import LEVEL_AT_THE_TOP, MOST_AT_THE_TOP
from xface.statistics.bootstrap import Estimate
from xface.statistics.effects import against_all

NAMED = {**MANIFEST, "positive": "fake", "classes": ["fake", "real"]}


def row(region="mouth", contrast="FP-TP", difference=1.0, p=0.001, layer="layer4", **given):
    name = {"method": "gradcam", "layer": layer, "region": region}
    means = (Estimate(2.0), Estimate(1.0))
    made = Contrast(name, contrast, (50, 50), (20, 20), (0, 0), means, Estimate(difference), 0.4, p,
                    adjusted=True, p_family=p, p_all=p)  # fmt: skip
    return Contrast(**{**vars(made), **given})


def test_families_are_corrected_together_by_holm():
    ps = [[0.004, 0.3, None], [0.02], [0.9, 0.011]]
    assert against_all(ps) == [[pytest.approx(0.012), pytest.approx(0.9), None], [pytest.approx(0.022)],
                               [1.0, pytest.approx(0.022)]]  # fmt: skip
    alone = [[p] for p in np.random.default_rng(0).random(30) ** 3]
    from statsmodels.stats.multitest import multipletests

    holm = multipletests([p for [p] in alone], method="holm")[1]
    assert [p for [p] in against_all(alone)] == pytest.approx(holm)


def test_every_contrast_of_a_table_is_a_family_and_so_are_the_slices():
    regions = [row(p=0.01), row("nose", p=0.5), row(contrast="FN-TN", p=0.004)]
    [found, none], slices = with_p_all([regions, []], [])
    assert [each.p_all for each in found] == pytest.approx([0.01, 0.5, 0.008])
    assert (none, slices) == ((), ())


def told(*rows):
    kinds = list(dict.fromkeys(f"gradcam at {each.name['layer']}" for each in rows))
    return places(rows, kinds)


def test_mirrored_and_overlapping_regions_are_told_once_and_coarse_ones_marked():
    assert told(row("left_eye"), row("right_eye")) == "more weight on both eyes"
    assert told(row("left_eye"), row("right_eye", difference=-1.0)) == (
        "more weight on the left eye and less weight on the right eye"
    )
    assert told(row("right_cheek", coarse=True), row("left_cheek")) == "more weight on both cheeks (coarse)"
    assert told(row("face"), row(BACKGROUND, difference=-1.0)) == "more weight on the face"
    assert told(row("face"), row("mouth"), row(BACKGROUND, difference=-1.0)) == "more weight on the mouth"
    assert told(row(BACKGROUND), row("nose", difference=-1.0)) == "less weight on the nose"
    five = [row(name) for name in ("mouth", "nose", "jaw", "forehead", "chin")]
    assert told(*five) == "more weight on the mouth, the nose and the jaw and 2 more"


def test_kinds_of_maps_that_show_the_same_are_told_once():
    both = [row(layer=layer) for layer in ("layer3", "layer4")]
    assert told(*both) == "more weight on the mouth"
    assert told(*both, row("nose", layer="layer3")) == (
        "more weight on the mouth and the nose (gradcam at layer3)"
    )


def test_what_is_the_same_against_several_outcomes_is_told_once():
    words = {"FP-TN": "darker", "FP-TP": "smaller"}
    assert against(words, "than") == "darker than true negatives and smaller than true positives"
    rows = by_error([row(), row(contrast="FN-TP"), row(contrast="FP-TN", p=0.2)])
    assert [[each.contrast for each in some] for some in rows] == [["FP-TP"], ["FN-TP"]]


def test_attributes_come_before_maps_and_both_kinds_of_errors_share_a_sentence():
    found = conclude(*tables(dark=1.2, mouth=1.0), NAMED)
    top = [each for each in found.sentences if each.top]
    assert found.sentences[: len(top)] == tuple(top)
    assert [(each.top, each.about) for each in top] == [(1, "attribute"), (2, "region")]
    who = "alse positives (real called fake) and false negatives (fake called real)"
    assert top[0].text.startswith(
        f"F{who} are darker than correctly classified images (brightness lower by 0."
    )
    assert top[1].text.startswith(
        f"For f{who}, gradcam at layer4 puts more weight on the mouth than for correctly classified images "
        "with the same verdict, at equal scores (mouth: lift higher by 0."
    )
    assert all(each.p_all <= LEVEL_AT_THE_TOP and len(each.rows) == 12 for each in top)


def test_no_more_than_three_come_to_the_top():
    images, regions = tables(dark=1.2, mouth=1.0)
    wrong = {error: images["outcome"] == error for error in ("FP", "FN")}
    images["brightness"] -= 0.2 * wrong["FP"]
    images["face_size"] += 60 * wrong["FN"]
    top = [each for each in conclude(images, regions, NAMED).sentences if each.top]
    assert len(top) == MOST_AT_THE_TOP
    assert " are darker than " in top[0].text
    assert "false negatives" in top[1].text.lower()


@pytest.fixture(scope="module")
def following():
    """The mouth's share grows with the score, whatever the verdict."""
    images, _ = tables(1800)
    rng = np.random.default_rng(0)
    mouth = 0.1 + 0.4 * images["score"].to_numpy() + 0.05 * rng.normal(size=len(images))
    rest = rng.dirichlet(np.ones(4) * 20, len(images)) * (1 - mouth[:, None])
    return images, region_table(images, np.insert(rest, 2, mouth, axis=1))


def test_what_follows_the_score_stays_raw(following):
    found = conclude(*following, MANIFEST)
    rows = [each for each in found.contrasts if each.name["region"] == "mouth"]
    assert {each.contrast for each in rows} == {*CONTRASTS, *LIKENESSES}
    assert all(each.adjusted and not each.finding for each in rows)
    assert all(each.raw.finding for each in rows if each.contrast in CONTRASTS)
    assert not about(found, "region")
    assert not [each for each in found.sentences if each.top]


def test_errors_that_look_like_right_verdicts_are_said_to(following):
    found = conclude(*following, MANIFEST)
    said = {(each.contrast, each.name): each for each in about(found, "same")}
    alarms = said["FP-TP", "regions"]
    assert alarms.text.startswith("False positives look like true positives: at equal scores, each of 5 comp")
    outcomes = following[0].set_index("row")["outcome"]
    assert [outcomes[number] for number in alarms.rows] == ["FP", "TP"] * 6
    assert all(each.equivalence.same for each in found.contrasts if each.contrast == "FP-TP")
    assert all(each.equivalence is None for each in found.contrasts if each.contrast in CONTRASTS)
    assert not [each for each in about(found, "none") if (each.contrast, each.name) == ("FP-TP", "regions")]
