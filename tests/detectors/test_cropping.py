"""The card's crop: done wherever pictures are prepared, carried through to the landmarks, never silent."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from project import ROOT
from test_cli import run

import xface
from xface.data.views import ReadViews
from xface.detectors import Card, load
from xface.detectors.crops import (
    NO_FACE,
    BoxCrop,
    CropSettings,
    OutlineCrop,
    face_crop,
    prepare_cropped,
)
from xface.evaluation.evaluation import evaluate
from xface.evaluation.scoring import score
from xface.evaluation.thresholds import Threshold
from xface.faces import find_face
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import Picture, read_picture
from xface.preprocessing import PRESETS, Preprocessing
from xface.results import Face

SAMPLE = ROOT / "samples" / "real.jpg"
MARK = (255, 0, 255)
BOX = CropSettings("box", 0.2)
NOSE = 30


@pytest.fixture(scope="module")
def scene():
    """A wide picture with a small face, off its middle, and that face; both once found."""
    pixels = np.full((300, 520, 3), 90, np.uint8)
    pixels[6:294, 190:478] = read_picture(SAMPLE).pixels
    face = find_face(pixels)
    assert face.found
    return Picture("scene", pixels), face


@pytest.fixture
def weights(tmp_path):
    """Makes a weights file of ResNet-18 whose card has a crop."""
    from safetensors.torch import save_file

    def made(crop):
        network = load("none", arch="resnet18", device="cpu").model
        save_file({n: t.contiguous() for n, t in network.state_dict().items()}, tmp_path / "a.safetensors")
        content = Card("resnet18", ("fake", "real"), Preprocessing((64, 64)), crop=crop).to_json()
        content.pop("source")
        (tmp_path / "a.json").write_text(json.dumps(content))
        return tmp_path / "a.safetensors"

    return made


@pytest.fixture
def searches(monkeypatch):
    """How often a face was searched for, by what is really used."""
    done = []

    def find(pixels, detector="hog"):
        done.append(pixels.shape)
        return find_face(pixels, detector)

    for module in ("xface.explanation", "xface.detectors.detector", "xface.faces.landmark_cache"):
        monkeypatch.setattr(f"{module}.find_face", find)
    return done


PREPARATIONS = [
    Preprocessing((96, 128)),
    Preprocessing((90, 90), shorter_side=120),
    Preprocessing(None),
    replace(PRESETS["seed"], size=(200, 100)),
]


@pytest.mark.parametrize("crop", [OutlineCrop(), BoxCrop(0.0), BoxCrop(0.5), BoxCrop(10)])
@pytest.mark.parametrize("preprocessing", PREPARATIONS, ids=str)
def test_a_landmark_lies_on_the_same_content_before_and_after(scene, crop, preprocessing):
    """A disc is painted where the nose's tip is; what the network sees of it lies where geometry says."""
    picture, face = scene
    x, y = np.rint(face.landmarks[NOSE]).astype(int)
    rows, columns = np.indices(picture.pixels.shape[:2])
    painted = picture.pixels.copy() // 2
    painted[(rows - y) ** 2 + (columns - x) ** 2 <= 16] = MARK
    prepared = prepare_cropped(Picture("painted", painted), preprocessing, crop, face.landmarks)
    seen = prepared.view.astype(int)
    amount = np.clip(np.minimum(seen[..., 0], seen[..., 2]) - seen[..., 1] - 40, 0, None)
    rows, columns = np.indices(amount.shape)
    centre = [(columns * amount).sum() / amount.sum(), (rows * amount).sum() / amount.sum()]
    assert prepared.geometry.to_input(np.array([x, y])) == pytest.approx(centre, abs=0.3)
    assert prepared.geometry.to_original(np.array(centre)) == pytest.approx([x, y], abs=1.5)
    assert prepared.notes == ()


def test_training_and_predicting_see_the_same(scene, weights, tmp_path):
    picture, _ = scene
    Image.fromarray(picture.pixels).save(tmp_path / "a.png")
    for crop in (CropSettings("outline"), BOX):
        detector = xface.load(weights(crop), device="cpu")
        prepared = detector.prepare(read_picture(tmp_path / "a.png"))
        store = LandmarkStore(tmp_path / "store")
        trained = ReadViews(
            [str(tmp_path / "a.png")], Preprocessing((64, 64)), face_crop(crop.kind, crop.margin), store
        ).view(0)
        assert (prepared.view == trained.pixels).all()
        whole = Preprocessing((64, 64)).prepare(picture)
        assert (prepared.view != whole.view).any()
        points = prepared.geometry.to_input(store.landmarks(picture.pixels))
        assert np.allclose(trained.landmarks, points)


def test_a_prediction_is_that_of_the_picture_cropped_by_hand(scene, weights):
    picture, face = scene
    cropped, _ = BoxCrop(0.2)(picture.pixels, face.landmarks)
    path = weights(BOX)
    [found] = xface.load(path, device="cpu").predict(picture)
    whole = replace(xface.load(path, device="cpu").card, crop=None)
    [by_hand] = replace(xface.load(path, device="cpu"), card=whole).predict(cropped)
    [uncropped] = replace(xface.load(path, device="cpu"), card=whole).predict(picture)
    assert found.probabilities == by_hand.probabilities
    assert found.probabilities != uncropped.probabilities
    assert found.notes == ()


def test_an_explanation_measures_in_the_crop_and_finds_the_face_once(scene, weights, searches):
    """The same as of the picture cut by hand, whose landmarks are moved by hand."""
    picture, face = scene
    detector = xface.load(weights(BOX), device="cpu")
    found = xface.explain(detector, picture, ["vanilla"])
    assert searches == [picture.pixels.shape]
    cropped, corner = BoxCrop(0.2)(picture.pixels, face.landmarks)
    plain = replace(detector, card=replace(detector.card, crop=None))
    moved = replace(face, landmarks=face.landmarks - corner)
    by_hand = xface.explain(plain, cropped, ["vanilla"], face=moved)
    assert (found.view == by_hand.view).all()
    assert np.allclose(found.landmarks, by_hand.landmarks)
    assert (found.maps[0].values == by_hand.maps[0].values).all()
    assert found.regions == by_hand.regions
    assert found.notes == ()
    assert np.array_equal(found.face.landmarks, face.landmarks)  # in the original's pixels


def test_a_face_that_is_given_is_cropped_to(scene, weights, searches):
    picture, face = scene
    detector = xface.load(weights(BOX), device="cpu")
    elsewhere = Face(True, None, face.landmarks - (60, 0), "hand")
    prepared = detector.prepare(picture, elsewhere)
    left, top = BoxCrop(0.2)(picture.pixels, elsewhere.landmarks)[1]
    assert prepared.geometry.to_original(np.array([-0.5, -0.5])) == pytest.approx([left - 0.5, top - 0.5])
    xface.explain(detector, picture, ["vanilla"], face=elsewhere)
    assert searches == []


def test_what_is_taken_whole_is_noted(scene, weights):
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    detector = xface.load(weights(BOX), device="cpu")
    first, second, third = detector.predict([noise, scene[0], Picture("n", noise, ("an alpha channel",))])
    assert (first.notes, second.notes) == ((NO_FACE,), ())
    assert third.notes == ("an alpha channel", NO_FACE)
    assert torch.equal(
        detector.prepare(read_picture(noise)).tensor,
        Preprocessing((64, 64)).prepare(read_picture(noise)).tensor,
    )
    assert xface.explain(detector, noise, ["vanilla"]).notes == (NO_FACE,)
    one_point = detector.prepare(scene[0], Face(True, None, np.zeros((68, 2))))
    assert one_point.notes[0].startswith("not cropped, taken whole: less than 16 pixels")


def test_without_a_crop_no_face_is_looked_for(scene, weights, searches):
    detector = xface.load(weights(None), device="cpu")
    assert detector.predict(scene[0])[0].notes == ()
    assert searches == []


def test_an_evaluation_crops_searches_once_and_counts_what_it_took_whole(
    scene, weights, searches, tmp_path, monkeypatch
):
    """Two pictures of the scene and one of noise: scored as predicted; then nothing is searched again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    pictures = {"real/a.png": scene[0].pixels, "fake/b.png": noise, "fake/c.png": scene[0].pixels[:, ::-1]}
    for name, pixels in pictures.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    detector = xface.load(weights(BOX), device="cpu")
    paths = [str(tmp_path / name) for name in pictures]
    table = pd.DataFrame({"path": paths, "label": ["real", "fake", "fake"]})
    found = score(detector, table)
    expected = [prediction.positive_probability for prediction in detector.predict(paths)]
    assert found["score"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert found["uncropped"].tolist() == ["", NO_FACE, ""]
    before = len(searches)
    assert score(detector, table).equals(found)
    assert len(searches) == before
    [said] = [c for c in evaluate(found, "scene", Threshold(0.5, "default")).cautions if "uncropped" in c]
    assert said == "images used uncropped, as no face was found: 1 of 2 fake, 0 of 1 real"
    plain = score(replace(detector, card=replace(detector.card, crop=None)), table)
    assert "uncropped" not in plain
    assert (plain["score"] != found["score"]).tolist() == [True, False, True]


def test_faces_are_found_alike_by_several_threads(scene):
    """dlib's detector lets other threads run while it works on a state of its own."""
    shifted = [np.roll(scene[0].pixels, 9 * step, axis=1) for step in range(8)]
    alone = [find_face(pixels).landmarks for pixels in shifted]
    with ThreadPoolExecutor(4) as pool:
        together = [face.landmarks for face in pool.map(find_face, shifted)]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_the_commands_crop_and_say_where_they_could_not(scene, weights, tmp_path):
    path = weights(BOX)
    Image.fromarray(scene[0].pixels).save(tmp_path / "face.png")
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    done = run("predict", "--device", "cpu", "--weights", path, tmp_path / "face.png", tmp_path / "noise.png")
    first, second = done.out.splitlines()
    assert NO_FACE not in first
    assert second.endswith(f"({NO_FACE})")
    told = json.loads(run("predict", "--json", "--weights", path, tmp_path / "noise.png").out)
    assert told["notes"] == [NO_FACE]
    assert told["detector"]["card"]["crop"] == {"kind": "box", "margin": 0.2}
    shown = json.loads(run("predict", "--json", "--weights", path, tmp_path / "face.png").out)
    [expected] = xface.load(path).predict(tmp_path / "face.png")
    assert shown["prediction"]["probabilities"] == expected.probabilities


def test_the_card_is_shown_and_changed(weights, tmp_path):
    path = weights(None)
    assert "crop          none" in run("card", path).out
    assert "crop: none -> box, margin 0.3" in run("card", path, "--crop", "box").out
    assert "crop          box, margin 0.3" in run("card", path).out
    refused = run("card", path, "--crop", "boxes")
    assert refused.status == 2
    assert "did you mean 'box'" in refused.err
    assert xface.load(path).card.crop == CropSettings("box", 0.3)
