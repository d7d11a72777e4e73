"""Real faces are plausible, whichever way they lie; permuted, mirrored or collapsed ones aren't."""

import numpy as np
import pytest
from test_regions import FACE, turned

from xface.faces import find_face, read_landmarks
from xface.faces.plausibility import ABOVE, ACROSS, PARTS, implausible, quarter_turns
from xface.images.pictures import read_picture

PARTS_OF_POINTS = [part for part, *_ in PARTS.values()]


@pytest.fixture(scope="module")
def faces(shared_data):
    paths = sorted((shared_data / "landmarks_68").glob("*.pts"))
    return [read_landmarks(path).of(path) for path in paths]


def permuted(points: np.ndarray, part: range, seed: int) -> np.ndarray:
    """The points of one part in an order where no point has a neighbour that it had."""
    rng, changed, before = np.random.default_rng(seed), points.copy(), list(part)
    while True:
        after = rng.permutation(before)
        if (np.abs(np.diff(after)) > 1).all():
            changed[before] = points[after]
            return changed


def swapped(points: np.ndarray, one: range, other: range) -> np.ndarray:
    changed = points.copy()
    count = min(len(one), len(other))
    changed[one[:count]], changed[other[:count]] = points[other[:count]], points[one[:count]]
    return changed


def with_one(points: np.ndarray, value: float) -> np.ndarray:
    changed = points.copy()
    changed[33] = value
    return changed


WRONG = {
    "fractions": (lambda p: p / 500, "fractions, not pixels; multiply x by the picture's width"),
    "fractions about 0": (lambda p: p / 250 - 1, "fractions"),
    "mirrored": (lambda p: p * [-1, 1] + [400, 0], "mirror image"),
    "y from below": (lambda p: [0, 400] + p * [1, -1], "mirror image"),
    "x and y swapped": (lambda p: p[:, ::-1], "mirror image"),
    "few pixels": (lambda p: p / 40, "too small"),
    "backwards": (lambda p: p[::-1], "."),
    "one off": (lambda p: np.roll(p, 1, axis=0), "."),
    "shuffled": (lambda p: np.random.default_rng(0).permutation(p), "."),
    "one place": (lambda p: p * 0 + 50, "span no face"),
    "a line": (lambda p: p[:, [0, 0]], "."),
    "squeezed": (lambda p: p * [1, 0.1], "."),
    "all x first": (lambda p: p.T.reshape(68, 2), "."),
    "one far away": (lambda p: with_one(p, 1e5), "."),
    "one not finite": (lambda p: with_one(p, np.nan), "not 68 finite pairs"),
    "one infinite": (lambda p: with_one(p, np.inf), "not 68 finite pairs"),
    "5 points": (lambda p: p[:5], "not 68 finite pairs"),
    "eyes swapped": (lambda p: swapped(p, range(36, 42), range(42, 48)), "36, 39, 42, 45"),
    "eyebrows swapped": (lambda p: swapped(p, range(17, 22), range(22, 27)), "17, 21, 22, 26"),
    "an eye as eyebrow": (lambda p: swapped(p, range(17, 22), range(36, 41)), "."),
    "eyes and mouth swapped": (lambda p: swapped(p, range(36, 48), range(48, 60)), "."),
    "jaw backwards": (lambda p: swapped(p, range(17), range(16, -1, -1)), "0, 16"),
    "mouth upside down": (lambda p: swapped(p, range(49, 54), range(59, 54, -1)), "upper lip"),
    "noise": (lambda p: np.random.default_rng(1).uniform(0, 300, (68, 2)), "."),
    "a grid": (lambda p: np.indices((4, 17)).reshape(2, 68).T * 20.0, "."),
}


@pytest.mark.parametrize(("spoil", "reason"), WRONG.values(), ids=WRONG)
def test_what_no_face_can_have(faces, spoil, reason):
    for points in (FACE, *faces):
        assert reason.strip(".") in implausible(spoil(points)) != ""


@pytest.mark.parametrize("part", [part for part in PARTS_OF_POINTS if len(part) > 4], ids=str)
def test_a_part_out_of_order(faces, part):
    caught = [implausible(permuted(points, part, seed)) != "" for points in faces for seed in range(3)]
    assert np.mean(caught) > (0.85 if part.start == 60 else 0.95)  # closed lips are a line of pairs


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180, 270])
def test_real_faces_are_plausible_whichever_way_they_lie(faces, degrees):
    for points in (FACE, *faces):
        face = turned(points, degrees, np.array([150.0, 150.0]))
        assert implausible(face) == ""
        assert implausible(face * 50 + 1000) == ""
        assert quarter_turns(turned(FACE, degrees, np.array([0, 0]))) == round(degrees / 90 + 0.01) % 4


@pytest.mark.parametrize("stretch", [(1.4, 1), (1, 1.4)])
def test_so_are_they_stretched_or_a_bit_off(faces, stretch):
    rng = np.random.default_rng(0)
    for points in faces:
        assert implausible(points * stretch) == ""
        assert implausible(np.floor(points + rng.normal(scale=1.5, size=points.shape))) == ""


def test_so_is_what_dlib_finds(shared_data):
    """Landmarks that are refused leave a note."""
    paths = sorted((shared_data / "dfdc_pairs").rglob("*.jpg"))[::500]
    notes = [note for path in paths for note in find_face(read_picture(path).pixels).notes]
    assert not [note for note in notes if "can't be a face's" in note]


def test_the_tables_speak_of_all_points():
    assert sorted(index for part in PARTS_OF_POINTS for index in part) == list(range(68))
    assert all(name == "chin" or below != above for _, above, name, below, _ in ABOVE)
    assert all(0 <= index < 68 for row in ACROSS for index in row)
