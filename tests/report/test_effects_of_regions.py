"""Region effects in words, in a table and in the panel, read back."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_report import CROWDED, LABELS, NAMES, a_map, findings, overlap, texts

from xface.faces import REGIONS
from xface.report import as_text, draw_panel
from xface.report.explanation.effect_cells import FALLS, RISES, draw_effect_bars, effect_face
from xface.report.explanation.effect_table import effect_table
from xface.report.explanation.effects_in_words import NOTHING_SPECIAL, UNDEFINED, effects_sentence
from xface.results import Prediction, RegionEffect


def effect(region, value, status="clear", flips=False, spread=0.1, control=0.2, **changes) -> RegionEffect:
    probability = None if value is None else value / 10
    fills = {"blur": value, "mean": value}
    row = RegionEffect(region, value, probability, spread, control, status, flips, 0.02, fills)
    return replace(row, **changes)


def effects(*rows: RegionEffect) -> tuple[RegionEffect, ...]:
    """A row per region; those that are not given have a small effect."""
    given = {row.region: row for row in rows}
    return tuple(given.get(name, effect(name, 0.1, "within_noise")) for name in REGIONS)


def nothing(region: str) -> RegionEffect:
    return effect(region, None, "undefined", spread=None, control=None)


THREE = Prediction("fake", 0.5, {"fake": 0.5, "real": 0.3, "gan": 0.2})
SENTENCES = [
    (effects(effect("mouth", 2.13, flips=True), effect("jaw", 3.0)), ("mouth",), None,
     "hiding the mouth lowers the fake score by 2.1: the verdict becomes real"),
    (effects(effect("mouth", 0.013, flips=True)), ("mouth",), THREE,
     "hiding the mouth lowers the fake score by 0.013: the verdict changes"),
    (effects(effect("mouth", 1.0, "within_noise", flips=True, area=0.01), effect("right_eye", 4, flips=True)),
     ("mouth",), None, "hiding the right eye lowers the fake score by 4.0: the verdict becomes real"),
    (effects(effect("mouth", 1.0, "within_noise", flips=True)), ("mouth",), None,
     "hiding the mouth lowers the fake score by 1.0: the verdict becomes real, "
     "but hiding another area of about its size moves the score as far"),
    (effects(effect("jaw", 0.9), effect("nose", 0.8)), ("jaw", "right_cheek", "nose"), None,
     "hiding the jaw lowers the fake score by 0.9; no region alone changes the verdict; "
     "hiding jaw, right cheek and nose together does"),
    (effects(effect("jaw", 0.9), effect("nose", -1.8)), None, None,
     "hiding the jaw lowers the fake score by 0.9, hiding the nose raises it by 1.8; "
     "no region alone changes the verdict, nor do those that support it together"),
    (effects(effect("nose", -150.0)), None, None,
     "hiding the nose raises the fake score by 150; "
     "no region alone changes the verdict, nor do those that support it together"),
    (effects(effect("nose", 0.6, "unclear")), ("nose", "jaw"), None,
     "no region has a clear effect, as fills disagree on the nose; "
     "no region alone changes the verdict; hiding nose and jaw together does"),
    (effects(), None, None,
     f"{NOTHING_SPECIAL}; no region alone changes the verdict, nor do those that support it together"),
    (tuple(map(nothing, REGIONS)), None, None, UNDEFINED),
    ((), None, None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "flip_set", "prediction", "expected"), SENTENCES)
def test_the_sentence_says_what_matters_most(rows, flip_set, prediction, expected):
    found = findings(a_map(), effects=rows, flip_set=flip_set)
    found = replace(found, prediction=prediction or found.prediction)
    assert effects_sentence(found) == expected
    assert " ".join(as_text(found).splitlines()[2:5]).startswith(expected)


def test_the_table_orders_regions_by_their_effect():
    rows = effects(
        effect("nose", -123456.7, "unclear", spread=2e5, effect_probability=-1.0),
        effect("mouth", 2.5, flips=True),
        nothing("jaw"),
    )
    text = effect_table(findings(a_map(), effects=rows))
    lines = text.partition("---\n")[2].splitlines()[: len(REGIONS)]
    assert lines[0].split() == ["mouth", "+2.50", "0.10", "+25.0", "+0.20", "clear", "flips"]
    assert lines[-2].split() == ["nose", "-1.23e+05", "2e+05", "-100.0", "+0.20", "unclear"]
    assert lines[-1].split() == ["jaw", "-", "-", "-", "-", "undefined"]
    assert max(map(len, text.splitlines())) <= 80
    for word in ("unclear:", "within noise:", "undefined:", "flips:", "the fake score"):
        assert word in text
    assert "shapley" not in text


def test_the_table_holds_shapley_values_where_they_were_asked_for():
    rows = effects(effect("mouth", 2.5, shapley=1.25, shapley_error=0.125), effect("nose", 2.0, shapley=-3.0))
    text = effect_table(findings(a_map(), effects=rows))
    assert "+1.25 ±0.12  clear" in text
    assert "-3.00  clear" in text
    assert max(map(len, text.splitlines())) <= 80


def test_bars_show_effect_spread_control_and_status():
    rows = effects(effect("mouth", 2.0, flips=True), effect("nose", -1.0), effect("jaw", 0.5, "unclear"))
    cell = Figure().subplots()
    draw_effect_bars(cell, [row for row in rows if row.region in ("mouth", "nose", "jaw", "forehead")])
    assert [label.get_text() for label in cell.get_yticklabels()] == ["mouth", "jaw", "forehead", "nose"]
    bands, bars = cell.patches[::2], cell.patches[1::2]
    assert [(band.get_x(), band.get_width()) for band in bands] == [(-0.2, 0.4)] * 4
    assert [bar.get_width() for bar in bars] == [2.0, 0.5, 0.1, -1.0]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [FALLS, "#ffffff", "#ffffff", RISES]
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True, False, False]
    spreads = [line.get_segments()[0][:, 0].tolist() for line in cell.collections]
    np.testing.assert_allclose(spreads, [(1.9, 2.1), (0.4, 0.6), (0.0, 0.2), (-1.1, -0.9)], atol=1e-12)
    assert [(text.get_text(), text.get_weight()) for text in cell.texts] == [
        ("+2.00 flips", "bold"), ("+0.50", "normal"), ("+0.10", "normal"), ("-1.00", "normal")]  # fmt: skip


def test_the_face_is_coloured_where_effects_are_clear():
    """By hue for the sign, by saturation for the size; grey elsewhere."""
    rows = effects(effect("mouth", 2.0), effect("nose", -1.0), effect("jaw", 0.5, "unclear"))
    pixels = effect_face(findings(a_map(), effects=rows)).astype(float)
    warmth = {
        name: np.median((pixels[..., 0] - pixels[..., 2])[NAMES.index(name) == LABELS]) for name in NAMES
    }
    assert warmth.pop("mouth") > 100
    assert warmth.pop("nose") < -50
    assert set(warmth.values()) == {0}


@pytest.mark.parametrize("name", [name for name, found in CROWDED.items() if found.face.found])
def test_no_text_of_a_panel_with_effects_is_cut_off_or_lies_on_another(name):
    rows = effects(
        effect("left_eyebrow", -12345.678, flips=True, shapley=5000.0), effect("jaw", 0.9, "unclear")
    )
    found = replace(CROWDED[name], effects=rows, label="a class with a long name")
    figure = draw_panel(found)
    boxes, page = texts(figure), figure.bbox
    for text, box in boxes:
        assert min(box.x0, box.y0, page.x1 - box.x1, page.y1 - box.y1) >= -1, text
    assert not [(one, two) for i, (one, a) in enumerate(boxes) for two, b in boxes[i + 1 :] if overlap(a, b)]
    said = " ".join("\n".join(text for text, _ in boxes).split())
    assert effects_sentence(found) in said


def test_a_class_name_is_no_mathematics(tmp_path):
    found = findings(a_map(), effects=effects(effect("mouth", 2.0, flips=True)), label="$x^{$")
    draw_panel(found).savefig(tmp_path / "a.png")
