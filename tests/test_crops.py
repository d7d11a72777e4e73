"""Crops keep the face, and landmarks are searched once."""

import numpy as np
import pytest

from xface.data import crops
from xface.data.crops import BoxCrop, LandmarkStore, OutlineCrop, face_crop
from xface.errors import LandmarkError, UnknownNameError, UsageError
from xface.faces import find_face, region_labels
from xface.faces.regions import BACKGROUND, REGIONS
from xface.images import read_picture
from xface.results import Face


@pytest.fixture(scope="module")
def face():
    from pathlib import Path

    pixels = read_picture(Path(__file__).resolve().parents[1] / "samples" / "real.jpg").pixels
    return pixels, find_face(pixels).landmarks


def test_outline_keeps_the_regions_of_the_face_and_blackens_the_rest(face):
    pixels, points = face
    cropped, corner = OutlineCrop()(pixels, points)
    inside = region_labels(points, pixels.shape[:2]) != list(REGIONS).index(BACKGROUND)
    assert corner == (0, 0)
    assert (cropped[~inside] == 0).all()
    kept = (cropped == pixels).all(axis=2)
    assert kept[inside].mean() > 0.97  # eyebrows reach beyond the outline in places
    assert 0.2 < inside.mean() < 0.8


def test_outline_refuses_points_that_are_no_face(face):
    with pytest.raises(LandmarkError):
        OutlineCrop()(face[0], np.zeros((68, 2)))


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
def test_box_is_square_around_the_landmarks_with_its_margin(margin):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    points = np.random.default_rng(1).uniform((150, 120), (250, 180), (68, 2))
    points[:2] = (150, 120), (249, 179)
    points = points.clip((150, 120), (249, 179))
    cropped, corner = BoxCrop(margin)(pixels, points)
    side = 100 * (1 + 2 * margin)
    assert cropped.shape == (side, side, 3)
    moved = points - corner
    rows, columns = np.rint(points).astype(int).T[::-1]
    at = np.rint(moved).astype(int).T[::-1]
    assert (cropped[tuple(at)] == pixels[rows, columns]).all()
    low, high = moved.min(axis=0), moved.max(axis=0)
    assert np.abs(low + high + 1 - side).max() <= 1  # in the middle


def test_box_stops_at_the_picture_and_refuses_what_is_too_small(face):
    pixels, points = face
    cropped, corner = BoxCrop(10)(pixels, points)
    assert (cropped == pixels).all()
    assert corner == (0, 0)
    with pytest.raises(LandmarkError, match="less than 16 pixels of the box"):
        BoxCrop(0)(pixels, points + 10_000)


def test_settings():
    assert face_crop(True) == face_crop("outline") == OutlineCrop()
    assert face_crop(False) is face_crop("") is None
    assert face_crop("box", 0.1) == BoxCrop(0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'box'"):
        face_crop("boxes")
    with pytest.raises(UsageError, match=r"margin of 0\.1 belongs to the crop box"):
        face_crop(True, 0.1)
    with pytest.raises(UsageError, match="not within 0 to 10"):
        face_crop("box", -1)


@pytest.fixture
def searches(monkeypatch):
    """The number of times that a face was searched for; none is found in black pictures."""
    done = []

    def find(pixels):
        done.append(pixels.shape)
        points = np.arange(136.0).reshape(68, 2) + float(pixels.mean())
        return Face(True, None, points) if pixels.any() else Face(False)

    monkeypatch.setattr(crops, "find_face", find)
    return done


def test_landmarks_are_searched_once_for_the_same_pixels(tmp_path, searches):
    store, white = LandmarkStore(tmp_path), np.full((20, 30, 3), 255, np.uint8)
    first = store.landmarks(white)
    again = LandmarkStore(tmp_path).landmarks(white.copy())
    assert (first == again).all()
    assert first.shape == (68, 2)
    assert len(searches) == 1
    store.landmarks(white.reshape(30, 20, 3))
    store.landmarks(np.full((20, 30, 3), 254, np.uint8))
    assert len(searches) == 3


def test_that_there_is_no_face_is_kept_too(tmp_path, searches):
    black = np.zeros((20, 30, 3), np.uint8)
    assert LandmarkStore(tmp_path).landmarks(black) is None
    assert LandmarkStore(tmp_path).landmarks(black) is None
    assert len(searches) == 1


def test_a_file_cut_short_is_made_again(tmp_path, searches):
    store, white = LandmarkStore(tmp_path), np.full((20, 30, 3), 255, np.uint8)
    expected = store.landmarks(white)
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:200])
    assert (store.landmarks(white) == expected).all()
    assert len(searches) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written(tmp_path, searches):
    (tmp_path / "file").write_text("")
    with pytest.raises(LandmarkError, match="name another folder"):
        LandmarkStore(tmp_path / "file").landmarks(np.full((20, 30, 3), 255, np.uint8))


def test_the_real_search_is_what_the_store_gives(face, tmp_path):
    pixels, points = face
    assert (LandmarkStore(tmp_path).landmarks(pixels) == points).all()
    assert (LandmarkStore(tmp_path).landmarks(pixels) == points).all()
