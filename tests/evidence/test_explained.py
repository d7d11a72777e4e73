"""Region effects as `explain` gives them, from Python and on the command line, with planted truths."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from command_line import FAKE, columns, run
from probe_networks import Looking, as_detector

import xface
from xface.errors import UnknownNameError
from xface.evidence.hiding import NEUTRAL
from xface.faces import REGIONS, find_face, region_labels
from xface.images.pictures import read_picture
from xface.report import as_text

NAMES = list(REGIONS)
METHOD = ["vanilla"], ["relu"]
KEYS = ["region", "effect", "effect_probability", "spread", "control", "status", "flips", "area", "fills",
        "shapley", "shapley_error"]  # fmt: skip


class OneByOne(Looking):
    """Refuses a batch, as networks of others may."""

    def forward(self, images):
        if len(images) > 1:
            raise RuntimeError("one\nat a time")
        return super().forward(images)


class Counting(Looking):
    """Counts the pictures that it is shown."""

    seen = 0

    def forward(self, images):
        self.seen += len(images)
        return super().forward(images)


class Overflowing(Looking):
    """Has no finite score where it would say real."""

    def forward(self, images):
        logits = super().forward(images)
        return torch.where(logits[:, :1] > 0, logits, logits * float("inf"))


def looking_at(region: str, kind: type[Looking] = Looking, part: float = 0.5):
    """A detector that calls samples/fake.jpg fake while a region has more than this part of its detail."""
    blank = as_detector(torch.nn.Identity())
    picture = read_picture(FAKE)
    prepared = blank.prepare(picture)
    points = prepared.geometry.to_input(find_face(picture.pixels).landmarks)
    where = torch.from_numpy(region_labels(points, prepared.view.shape[:2]) == NAMES.index(region))
    detail = Looking(where, gain=1.0)(prepared.tensor[None])[0, 0].item()
    return as_detector(kind(where, offset=part * detail, gain=4 / detail))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`xface explain` on samples/fake.jpg, asking a given detector."""

    def ask(detector, *options):
        monkeypatch.setattr(xface, "load", lambda *arguments: detector)
        words = ["--method", "vanilla", "--layer", "relu", "--out", tmp_path, *options, FAKE]
        return run("explain", *words)

    return ask


def test_the_region_that_decides_comes_first_everywhere(command):
    region = "left_eye"
    detector = looking_at(region)
    found = xface.explain(detector, FAKE, *METHOD)
    first = max(found.effects, key=lambda row: row.effect)
    assert (found.prediction.label, first.region, first.status) == ("fake", region, "clear")
    assert found.flips == found.flip_set == (region,)
    frame = found.effects_to_dataframe()
    assert frame.region.tolist() == NAMES
    mean = frame[["effect_blur", "effect_mean", "effect_inpaint"]].mean(axis=1)
    np.testing.assert_allclose(frame.effect, mean)
    sentence = f"hiding the left eye lowers the fake score by {first.effect:.1f}: the verdict becomes real"
    text = as_text(found)
    assert text.splitlines()[2] == sentence
    assert text.partition("\n---")[2].splitlines()[1].startswith(region)
    assert columns(text) <= 80
    [line] = command(detector, "--json").lines
    assert [list(row) for row in line["effects"]] == [KEYS] * len(NAMES)
    assert line["effects"] == json.loads(json.dumps([asdict(row) for row in found.effects]))
    assert line["flip_set"] == [region]


def test_without_effects_the_rest_is_the_same(command):
    detector = looking_at("mouth")
    found, without = (xface.explain(detector, FAKE, *METHOD, effects=kind) for kind in ("regions", None))
    assert (without.effects, without.flip_set, without.flips) == ((), None, ())
    assert list(without.effects_to_dataframe().columns) == list(found.effects_to_dataframe().columns)
    assert without.regions == found.regions
    [line] = command(detector, "--json", "--effects", "none").lines
    assert (line["effects"], line["flip_set"]) == ([], None)
    assert "hiding" not in as_text(without)


def test_effects_ask_of_a_dozen_pictures_per_fill_and_not_again_of_the_untouched_one():
    """Here a region flips the verdict alone, so that none are hidden together."""
    detector, seen = looking_at("mouth", Counting), []
    for kind in (None, None, "regions"):  # the first one finds out about the network
        detector.model.seen = 0
        assert bool(xface.explain(detector, FAKE, *METHOD, effects=kind).flips) == (kind is not None)
        seen.append(detector.model.seen)
    per_fill = (seen[2] - seen[1]) / len(NEUTRAL)
    assert per_fill == int(per_fill)
    assert len(NAMES) + 2 <= per_fill <= len(NAMES) + 4  # with two to four control areas


def test_a_picture_without_a_face_has_none():
    found = xface.explain(looking_at("mouth"), np.full((64, 64, 3), 9, np.uint8), *METHOD)
    assert (found.effects, found.flip_set, found.notes) == ((), None, ())


def test_what_fails_when_regions_are_hidden_costs_no_map(command):
    detector = looking_at("mouth", OneByOne)
    found = xface.explain(detector, FAKE, *METHOD)
    assert found.effects == ()
    assert found.notes == ("no effects of regions: one",)
    assert [amap.status for amap in found.maps] == ["ok"]
    done = command(detector)
    assert done.status == 0
    assert "note: no effects of regions: one\n" in done.out


def test_scores_that_are_not_finite_have_no_effect():
    found = xface.explain(looking_at("mouth", Overflowing), FAKE, *METHOD)
    rows = {row.region: row for row in found.effects}
    assert (rows["mouth"].status, rows["mouth"].effect, rows["mouth"].flips) == ("undefined", None, False)
    assert rows["forehead"].status == "within_noise"
    json.dumps(found.to_json(), allow_nan=False)


def test_the_class_is_the_maps():
    detector = looking_at("mouth")
    effects = {
        target: [row.effect for row in xface.explain(detector, FAKE, *METHOD, target).effects]
        for target in ("predicted", "margin", "fake", "real")
    }
    assert effects["predicted"] == effects["margin"] == effects["fake"]
    np.testing.assert_allclose(effects["real"], -np.array(effects["fake"]), atol=1e-5)
    assert "raises the real score" in as_text(xface.explain(detector, FAKE, *METHOD, "real"))


def test_shapley_values_go_with_the_effects(command):
    detector = looking_at("mouth")
    rows = {row.region: row for row in xface.explain(detector, FAKE, *METHOD, effects="shapley").effects}
    values = {name: row.shapley for name, row in rows.items()}
    assert values.pop("background") is None
    assert max(values, key=values.get) == "mouth"
    assert sum(values.values()) == pytest.approx(rows["mouth"].fills["blur"], rel=0.1)
    text = command(detector, "--effects", "shapley").out.partition("\n\npanel")[0]
    assert f"{values['mouth']:+.2f} ±" in text
    assert columns(text) <= 80


def test_other_kinds_are_refused(command):
    with pytest.raises(UnknownNameError, match=r"unknown effects 'none'; known are 'regions', 'shapley'"):
        xface.explain(looking_at("mouth"), FAKE, *METHOD, effects="none")
    assert command(looking_at("mouth"), "--effects", "all").status == 2
