"""`xface.explain` end to end, on networks whose gradient is known beforehand."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from command_line import REAL, run
from PIL import Image
from test_regions import FACE
from torch import nn

import xface
from xface.attribution import CORE_METHODS, METHODS
from xface.detectors import Card, Detector
from xface.errors import (
    AttributionError,
    LandmarkError,
    UsageError,
)
from xface.faces import REGIONS, face_from_landmarks, find_face, region_labels
from xface.images.pictures import Picture, read_picture
from xface.networks import Architecture
from xface.preprocessing import Preprocessing
from xface.results import Face, RegionMeasure

NAMES = list(REGIONS)
HEIGHT, WIDTH = 240, 200
SIZE = (120, 100)  # half of the picture
PLAIN = Preprocessing(SIZE)
LABELS = region_labels((FACE + 0.5) / 2 - 0.5, SIZE)
RIGHT = FACE + np.array([120, 0])
ON_FACE = Face(True, (30, 20, 170, 200), FACE, "hand")


def picture(name: str = "a face.png", height: int = HEIGHT, width: int = WIDTH) -> Picture:
    return Picture(name, np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def planted(weights: np.ndarray, preprocessing: Preprocessing = PLAIN, classes=("fake", "real")) -> Detector:
    """A detector whose score for its first class is the sum of pixels x weights: its gradient is `weights`.

    The second class scores minus that, others nothing.
    """
    linear = nn.Linear(3 * weights.size, len(classes), bias=False)
    rows = torch.zeros(len(classes), *linear.weight.shape[1:])
    rows[0] = torch.from_numpy(np.broadcast_to(weights, (3, *weights.shape)).copy()).flatten()
    rows[1] = -rows[0]
    linear.weight.data = rows
    network = nn.Sequential(nn.Identity(), nn.Flatten(), linear).eval()
    arch = Architecture("planted", lambda count: network, "0", ("0",), "2")
    return Detector(arch, network, Card("planted", classes, preprocessing), torch.device("cpu"), "0" * 64)


def mask(region: str) -> np.ndarray:
    return (NAMES.index(region) == LABELS).astype(np.float32)


def corner() -> np.ndarray:
    weights = np.zeros(SIZE, np.float32)
    weights[:9, :7] = 0.25
    return weights


def table(found: xface.Explanation, method: str = "vanilla") -> dict[str, RegionMeasure]:
    return {row.region: row for row in found.regions if row.method == method}


class TestPlantedTruth:
    @pytest.mark.parametrize("region", REGIONS)
    def test_a_detector_that_looks_at_one_region_is_found_out(self, region):
        found = xface.explain(planted(mask(region)), picture(), ["vanilla"], face=ON_FACE)
        rows = table(found)
        area = mask(region).mean()
        assert {name: row.share for name, row in rows.items()} == {
            name: float(name == region) for name in NAMES
        }
        assert rows[region].lift == pytest.approx(1 / area)
        assert (rows[region].rank, rows[region].peak) == (1, 1)
        assert rows[region].area == pytest.approx(area)

    def test_the_raw_map_is_the_planted_gradient(self):
        weights = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)
        [amap] = xface.explain(planted(weights), picture(), ["vanilla"], target="fake").maps
        assert np.array_equal(amap.values, np.broadcast_to(weights, (3, *SIZE)))
        assert (amap.method, amap.layer, amap.status, amap.rule) == ("vanilla", None, "ok", "published")

    def test_regions_follow_the_crop(self):
        """The face sits left in a wide picture: resizing and cropping must move its mouth along."""
        wide = Preprocessing((96, 96), shorter_side=120)
        scale, left, top = 120 / 240, (round(400 * 120 / 240) - 96) / 2, (120 - 96) / 2
        moved = (RIGHT + 0.5) * scale - 0.5 - [left, top]
        weights = (region_labels(moved, (96, 96)) == NAMES.index("mouth")).astype(np.float32)
        assert weights.sum() > 100
        face = Face(True, (0, 0, 1, 1), RIGHT, "hand")
        found = xface.explain(planted(weights, wide), picture(height=240, width=400), ["vanilla"], face=face)
        assert table(found)["mouth"].share == 1
        assert np.allclose(found.landmarks, moved)
        assert np.array_equal(found.face.landmarks, RIGHT)

    def test_the_blank_map_of_a_blind_detector_has_a_status_and_no_measures(self):
        found = xface.explain(planted(np.zeros(SIZE, np.float32)), picture(), ["vanilla"], face=ON_FACE)
        [amap] = found.maps
        assert amap.status == "zero"
        assert {(row.share, row.lift, row.rank, row.peak) for row in found.regions} == {(None,) * 4}
        assert sum(row.area for row in found.regions) == pytest.approx(1)

    def test_an_overflowing_gradient_gives_no_map_and_no_nan_in_json(self):
        """Both scores are finite; the gradient of their difference, twice the weights, is not."""
        weights = np.zeros(SIZE, np.float32)
        weights[0, 0] = 3e38
        dark = Picture("dark", np.ones((HEIGHT, WIDTH, 3), np.uint8))
        found = xface.explain(planted(weights), dark, ["vanilla"], target="margin", face=ON_FACE)
        assert [amap.status for amap in found.maps] == ["non_finite"]
        text = json.dumps(found.to_json(), allow_nan=False)
        assert {row["share"] for row in json.loads(text)["regions"]} == {None}


class TestAgainstTheEngine:
    @pytest.fixture(scope="class")
    def detector(self):
        return xface.load(device="cpu")

    def test_its_maps_are_the_engines_bit_by_bit(self, detector):
        image = picture()
        found = xface.explain(detector, image)
        tensor = detector.prepare(image).tensor.unsqueeze(0)
        maps = xface.attribute(detector.model, tensor, None, CORE_METHODS, [detector.arch.layer])
        assert [(amap.method, amap.layer) for amap in found.maps] == list(maps)
        for amap in found.maps:
            key = amap.method, amap.layer
            assert amap.values.dtype == np.float32
            assert np.array_equal(amap.values, maps[key][0].numpy())
            assert (amap.status, amap.rule) == (maps.status[key][0], maps.rule[key])

    def test_its_verdict_is_predicts(self, detector):
        image = picture()
        [alone] = detector.predict(image)
        found = xface.explain(detector, image, ["vanilla"]).prediction
        assert found.label == alone.label
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-6)

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            (None, ["block4.norm"]),
            ("block2.norm", ["block2.norm"]),
            ("all", ["block1.norm", "block2.norm", "block3.norm", "block4.norm"]),
            (["all"], ["block1.norm", "block2.norm", "block3.norm", "block4.norm"]),
            (["block1.conv", "block3.norm"], ["block1.conv", "block3.norm"]),
            (["block3.norm", "all"], ["block3.norm", "block1.norm", "block2.norm", "block4.norm"]),
            (["block2.norm", "block2.norm"], ["block2.norm"]),
        ],
    )
    def test_layers(self, detector, layers, expected):
        found = xface.explain(detector, picture(), ["gradcam", "guided"], layers, face=ON_FACE)
        assert [amap.layer for amap in found.maps if amap.method == "gradcam"] == expected
        assert [amap.layer for amap in found.maps if amap.method == "guided"] == [None]

    def test_every_registered_method_comes_through(self):
        """On a planted network of 12 x 10 pixels; its input is its only layer."""
        small = planted(np.ones((12, 10), np.float32), Preprocessing((12, 10)))
        methods = [name for name, entry in METHODS.items() if not entry.rules - {"plain"}]
        found = xface.explain(small, picture(), methods, target="fake", face=ON_FACE)
        assert [amap.method for amap in found.maps] == methods
        for amap in found.maps:
            rows = [row for row in found.regions if row.method == amap.method]
            assert [row.region for row in rows] == NAMES
            if amap.status == "ok":
                assert sum(row.share for row in rows) == pytest.approx(1, abs=1e-6)


class TestUndefinedMethods:
    """A planted detector is linear: it has no rectifier."""

    MISSING = "no deconvnet, guided, guided_gradcam for this network: no rectifier that xface knows"

    def test_without_names_what_can_be_computed_is_and_the_rest_is_noted(self):
        found = xface.explain(planted(mask("mouth")), picture(), face=ON_FACE)
        assert [(amap.method, amap.layer) for amap in found.maps] == [("vanilla", None), ("gradcam", "0")]
        assert table(found)["mouth"].share == 1
        [note] = found.to_json()["notes"]
        assert note.startswith(self.MISSING)
        assert f"note: {note}" in found._repr_html_()

    def test_without_a_recommended_layer_those_that_need_one_are_noted(self):
        detector = planted(mask("mouth"))
        detector = replace(detector, arch=replace(detector.arch, layer="", stages=()))
        found = xface.explain(detector, picture(), face=ON_FACE)
        assert [amap.method for amap in found.maps] == ["vanilla"]
        layers, rectifiers = found.notes
        assert layers.startswith("no gradcam, guided_gradcam for this network: no layer with a feature map")
        assert rectifiers.startswith("no deconvnet, guided for this network: no rectifier")
        with pytest.raises(UsageError, match="gradcam works at a layer, and none is recommended"):
            xface.explain(detector, picture(), ["gradcam"], face=ON_FACE)

    @pytest.mark.parametrize("methods", [["guided"], ["vanilla", "deconvnet"], CORE_METHODS])
    def test_by_name_they_are_refused(self, methods):
        with pytest.raises(AttributionError, match="no rectifier"):
            xface.explain(planted(mask("mouth")), picture(), methods, face=ON_FACE)

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_the_command_line_says_so(self, options, tmp_path, monkeypatch):
        Image.fromarray(picture().pixels).save(tmp_path / "a face.png")
        monkeypatch.setattr(xface, "load", lambda *arguments: planted(mask("mouth")))
        words = ["explain", *options, "--out", str(tmp_path / "out"), str(tmp_path / "a face.png")]
        done = run(*words)
        assert done.status == 0, done.err
        assert f"{'' if options else 'note: '}{self.MISSING}" in done.out
        written = " ".join(path.name for path in (tmp_path / "out").glob("*.png"))
        assert {name for name in CORE_METHODS if name in written} == {"vanilla", "gradcam"}


class TestTargets:
    WEIGHTS = np.random.default_rng(5).normal(size=SIZE).astype(np.float32)

    def vanilla(self, target, classes=("fake", "real"), weights=WEIGHTS):
        found = xface.explain(
            planted(weights, classes=classes), picture(), ["vanilla"], None, target, ON_FACE
        )
        return found.label, found.maps[0].values[0]

    def test_each_target_explains_its_own_score(self):
        """Scores (s, -s, 0): the margin of a class is its score less the best other."""
        classes = ("fake", "real", "unsure")
        for sign in (1, -1):
            weights = sign * np.abs(self.WEIGHTS)
            winner = "fake" if sign == 1 else "real"
            expected = {
                "fake": ("fake", weights),
                "REAL": ("real", -weights),
                "unsure": ("unsure", 0 * weights),
                "predicted": (winner, sign * weights),
                "margin": (winner, sign * weights),
            }
            for target, (label, gradient) in expected.items():
                found_label, found = self.vanilla(target, classes, weights)
                assert found_label == label
                assert np.array_equal(found, gradient)

    def test_a_class_may_be_called_margin(self):
        assert self.vanilla("margin", ("real", "margin"))[0] == "margin"


class TestFaces:
    def test_without_a_face_there_are_maps_and_no_regions(self):
        flat = Picture("flat.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        found = xface.explain(planted(mask("mouth")), flat, ["vanilla"])
        assert not found.face.found
        assert [amap.status for amap in found.maps] == ["ok"]
        assert (found.landmarks, found.outlines, found.regions) == (None, (), ())
        assert found.to_json()["face"] == {"found": False, "box": None, "landmarks": None}

    def test_a_given_face_is_taken_as_it_is(self):
        face = Face(True, (1, 2, 3, 4), FACE, "hand", ("said by hand",))
        found = xface.explain(
            planted(mask("mouth")),
            Picture("x", picture().pixels, ("read so",)),
            face=face,
            methods=["vanilla"],
        )
        assert found.face is face
        assert found.notes == ("read so", "said by hand")
        assert found.to_json()["face"]["box"] == [1, 2, 3, 4]

    @pytest.mark.parametrize("shift", [(WIDTH, 0), (-WIDTH, 0), (0, HEIGHT), (0, -HEIGHT)])
    def test_landmarks_that_miss_the_picture_are_refused(self, shift):
        assert abs(FACE - 100).max() <= 100  # so that each shift leads out
        face = Face(True, ON_FACE.box, FACE + shift, "else\nwhere.csv")
        with pytest.raises(LandmarkError, match=r"'a face\.png' \('else\\nwhere\.csv'\).*past its 200x240"):
            xface.explain(planted(mask("mouth")), picture(), ["vanilla"], face=face)

    @pytest.mark.parametrize(
        ("points_turned", "picture_turned"), [(0, 0), (0, 1), (1, 1), (2, 2), (1, 0), (3, 1), (1, 2)]
    )
    def test_landmarks_turned_otherwise_than_the_face_are_refused(self, points_turned, picture_turned):
        """Unless by them the face is upright: then dlib isn't asked."""
        upright = read_picture(REAL).pixels
        points, side = find_face(upright).landmarks, len(upright) - 1
        assert upright.shape[0] == upright.shape[1]
        for _ in range(points_turned):
            points = np.stack([side - points[:, 1], points[:, 0]], axis=1)  # clockwise
        turned = Picture("a.jpg", np.ascontiguousarray(np.rot90(upright, -picture_turned)))
        face = face_from_landmarks(points, "a.pts")
        if points_turned in (0, picture_turned):
            found = xface.explain(planted(mask("mouth")), turned, ["vanilla"], face=face)
            said = f"the face is turned by {90 * points_turned}° clockwise in the picture"
            assert (said in found.notes) == (points_turned > 0)
        else:
            with pytest.raises(
                LandmarkError, match=r"turned by \d+° clockwise .* dlib finds it in another orientation"
            ):
                xface.explain(planted(mask("mouth")), turned, ["vanilla"], face=face)

    def test_landmarks_in_percent_are_refused_and_a_small_face_in_a_corner_is_not(self):
        pixels = read_picture(REAL).pixels
        points = find_face(pixels).landmarks
        percent = face_from_landmarks(points * 100 / np.array(pixels.shape[1::-1]), "a.pts")
        with pytest.raises(LandmarkError, match=r"are in percent of the picture.*multiply x by 2\.88"):
            xface.explain(planted(mask("mouth")), Picture("a.jpg", pixels), ["vanilla"], face=percent)
        side = len(pixels)
        corner = np.zeros((4 * side, 5 * side, 3), np.uint8)
        corner[:100, :100] = np.asarray(Image.fromarray(pixels).resize((100, 100)))
        small = face_from_landmarks((points + 0.5) * 100 / side - 0.5, "a.pts")
        assert small.landmarks.max() <= 100
        xface.explain(planted(mask("mouth")), Picture("a.jpg", corner), ["vanilla"], face=small)

    @pytest.mark.parametrize("count", [33, 34, 35, 36, 67])
    def test_landmarks_mostly_outside_the_picture_are_noted(self, count):
        """Moved right until so many of the 68 points are past the picture's edge."""
        points = FACE + np.linspace(0, 0.5, 68)[:, None]  # no two in one column
        columns = np.sort(points[:, 0])[::-1]
        points[:, 0] += WIDTH - 0.5 - columns[count - 1 : count + 1].mean()
        face = Face(True, ON_FACE.box, points, "hand")
        found = xface.explain(planted(mask("mouth")), picture(), ["vanilla"], face=face)
        noted = (f"{count} of 68 landmarks lie outside the picture",)
        assert found.notes == (noted if count > 34 else ())

    @pytest.mark.parametrize(("shift", "is_noted"), [(-30, True), (0, False), (100, False), (230, True)])
    def test_landmarks_mostly_outside_the_crop_are_noted(self, shift, is_noted):
        """Of 400 x 240 pixels the network sees the middle 240."""
        crop = planted(np.ones((96, 96), np.float32), Preprocessing((96, 96), shorter_side=96))
        points = FACE + np.array([shift, 0])
        outside = int(((points[:, 0] < 79.5) | (points[:, 0] > 319.5)).sum())
        face = Face(True, ON_FACE.box, points, "hand")
        found = xface.explain(crop, picture(width=400), ["vanilla"], face=face)
        noted = (f"{outside} of 68 landmarks lie outside the part that the network sees",)
        assert found.notes == (noted if is_noted else ())

    def test_a_picture_may_be_a_path_an_image_or_an_array(self, tmp_path):
        pixels = picture().pixels
        Image.fromarray(pixels).save(tmp_path / "p.png")
        detector = planted(TestTargets.WEIGHTS)
        sources = [tmp_path / "p.png", str(tmp_path / "p.png"), Image.fromarray(pixels), pixels, picture()]
        found = [xface.explain(detector, source, ["input_x_gradient"], face=ON_FACE) for source in sources]
        assert len({each.maps[0].values.tobytes() for each in found}) == 1
        assert found[0].image == str(tmp_path / "p.png")


class TestExplanation:
    @pytest.fixture(scope="class")
    def found(self):
        hostile = "<img src=x onerror=alert(1)>.jpg"
        return xface.explain(planted(mask("mouth")), picture(hostile), ["vanilla", "gradcam"], face=ON_FACE)

    def test_a_data_frame_has_a_row_per_map_and_region(self, found):
        frame = found.to_dataframe()
        assert list(frame.columns) == ["image", *(field.name for field in fields(RegionMeasure))]
        assert len(frame) == 2 * len(NAMES)
        assert set(frame.image) == {found.image}
        mouth = frame[(frame.method == "vanilla") & (frame.region == "mouth")]
        assert mouth.share.tolist() == [1.0]
        assert frame[frame.layer == "0"].method.unique().tolist() == ["gradcam"]

    def test_without_regions_the_frame_has_the_same_columns(self, found):
        flat = Picture("flat.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        empty = xface.explain(planted(corner()), flat, ["vanilla"]).to_dataframe()
        assert len(empty) == 0
        assert list(empty.columns) == list(found.to_dataframe().columns)

    def test_in_a_notebook_it_shows_itself_and_runs_nothing(self, found):
        page = found._repr_html_()
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page
        assert "data:image/png;base64," in page
        assert "mouth" in page

    def test_its_repr_is_short(self, found):
        label, probability = found.prediction.label, found.prediction.probability
        assert repr(found) == f"Explanation({found.image!r}: {label} {probability:.3f}, 2 maps)"

    def test_saving_writes_what_json_names(self, found, tmp_path):
        files = found.save(tmp_path, index=3, maps=True)
        content = found.to_json(files)
        for entry, amap in zip(content["maps"], found.maps, strict=True):
            assert Image.open(entry["file"]).size[0] == 512
            assert (entry["method"], entry["layer"]) == (amap.method, amap.layer)
        with np.load(files.arrays) as arrays:
            assert np.array_equal(arrays["vanilla"], found.maps[0].values)
        assert {entry["file"] for entry in found.to_json()["maps"]} == {None}


@pytest.mark.parametrize(("threshold", "called"), [(None, "fake"), (0.99, "real"), (0.01, "fake")])
def test_the_class_that_the_threshold_calls_is_explained(threshold, called):
    detector = xface.load("none", arch="resnet18")
    with torch.inference_mode():
        detector.model.fc.bias[0] += 3.0
    detector = replace(detector, card=replace(detector.card, threshold=threshold))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = xface.explain(detector, picture, methods=["vanilla"])
    assert 0.9 < found.prediction.probabilities["fake"] < 0.99
    assert found.prediction.label == found.label == called
    named = xface.explain(detector, picture, methods=["vanilla"], target=called)
    assert np.array_equal(found.maps[0].values, named.maps[0].values)
