"""Crops keep the face, and landmarks are searched once."""

import hashlib
import json
import os
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from project import ROOT
from test_regions import FACE

from xface.detectors.crops import BoxCrop, OutlineCrop, face_crop
from xface.errors import LandmarkError, UnknownNameError, UsageError
from xface.faces import LANDMARKERS, Landmarker, find_face, landmark_cache, region_labels
from xface.faces.landmark_cache import LandmarkStore
from xface.faces.regions import BACKGROUND, REGIONS
from xface.images.pictures import read_picture
from xface.results import Face


@pytest.fixture(scope="module")
def face():

    pixels = read_picture(ROOT / "samples" / "real.jpg").pixels
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


BOX = (30, 80, 170, 200)  # about FACE


@pytest.fixture
def searches(monkeypatch):
    """The number of times that a face was searched for; none is found in black pictures."""
    done = []

    def find(pixels, detector):
        done.append(pixels.shape)
        shift = int(pixels.mean())
        points, box = FACE + float(shift), tuple(side + shift for side in BOX)
        return Face(True, box, points, "by hand", ("odd\n",)) if pixels.any() else Face(False)

    monkeypatch.setattr(landmark_cache, "find_face", find)
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


def entry(**changes):
    """What a kept face looks like, with some of it changed."""
    face = {"found": True, "box": BOX, "landmarks": FACE.tolist(), "source": "", "notes": []}
    return json.dumps({**face, **changes}).encode()


def npz() -> bytes:
    buffer = BytesIO()
    np.savez(buffer, points=FACE)
    return buffer.getvalue()


BROKEN = {
    "empty": b"", "junk": b"\xff\xd8\xff", "text": b"68 points", "null": b"null", "list": b"[]",
    "number": b"7",
    "zip": npz(), "deep": b"[" * 60_000, "cut": entry()[:200], "doubled": entry() * 2, "zeros": bytes(5000),
    "long": entry(notes=["a" * 100_000]), "keys missing": b"{}", "another key": entry(more=1),
    "points missing": entry(landmarks=None), "no face with points": entry(found=False),
    "found as a number": entry(found=1), "texts": entry(landmarks=FACE.astype(str).tolist()),
    "whole numbers": entry(landmarks=FACE.astype(int).tolist()), "67": entry(landmarks=FACE[:67].tolist()),
    "flat": entry(landmarks=FACE.ravel().tolist()), "3-D": entry(landmarks=[FACE.tolist()]),
    "nan": entry(landmarks=(FACE * np.nan).tolist()), "infinite": entry(landmarks=(FACE * np.inf).tolist()),
    "huge numbers": entry(landmarks=[[10**400, 0.5]] * 68), "a dict": entry(landmarks={"a": 1}),
    "fractions": entry(landmarks=(FACE / 300).tolist()), "mirrored": entry(landmarks=(-FACE).tolist()[::-1]),
    "shuffled": entry(landmarks=FACE[::-1].tolist()), "one place": entry(landmarks=(FACE * 0 + 9).tolist()),
    "elsewhere": entry(box=[1, 2, 3, 4]), "no box": entry(box=None),
    "box of 3": entry(box=[1, 2, 3]), "box of texts": entry(box=list("1234")),
    "notes as text": entry(notes="odd"), "note as number": entry(notes=[1]), "source": entry(source=3),
}  # fmt: skip


def as_bytes(content: bytes):
    return lambda path: path.write_bytes(content)


PLACES = {name: as_bytes(content) for name, content in BROKEN.items()} | {
    "fifo": os.mkfifo,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: (path / "kept").mkdir(parents=True),
    "unreadable": lambda path: (path.write_bytes(entry()[:9]), path.chmod(0)),
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("spoil", PLACES.values(), ids=PLACES)
def test_what_is_no_kept_face_counts_as_absent_and_is_made_again(tmp_path, searches, spoil):
    store, white = LandmarkStore(tmp_path), np.full((20, 30, 3), 255, np.uint8)
    expected = store.face(white)
    (file,) = tmp_path.rglob("*.json")
    file.unlink()
    spoil(file)
    for _ in range(2):
        found = store.face(white)
        assert (found.landmarks == expected.landmarks).all()
        assert replace(found, landmarks=None) == replace(expected, landmarks=None)
    assert len(searches) == (3 if file.is_dir() else 2)  # a folder isn't ours to remove
    assert (file / "kept").is_dir() == file.is_dir()
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written(tmp_path, searches):
    (tmp_path / "file").write_text("")
    with pytest.raises(LandmarkError, match="name another folder"):
        LandmarkStore(tmp_path / "file").landmarks(np.full((20, 30, 3), 255, np.uint8))


def test_the_real_search_is_what_the_store_gives(face, tmp_path):
    pixels, points = face
    assert (LandmarkStore(tmp_path).landmarks(pixels) == points).all()
    assert (LandmarkStore(tmp_path).landmarks(pixels) == points).all()


def test_each_face_detector_keeps_its_own_and_a_new_version_searches_again(tmp_path, monkeypatch):
    white, known = np.full((20, 30, 3), 255, np.uint8), {"own": (0, 1), "own 1": (1, 1), "own2": (2, 1)}
    for name, (shift, version) in known.items():
        found = Face(True, None, FACE + shift)
        monkeypatch.setitem(LANDMARKERS._entries, name, Landmarker(lambda _, found=found: found, version))
    for _ in range(2):
        for name, (shift, _) in known.items():
            assert (LandmarkStore(tmp_path, name).landmarks(white) == FACE + shift).all()
    assert LandmarkStore(tmp_path).landmarks(white) is None
    monkeypatch.setitem(LANDMARKERS._entries, "own", Landmarker(lambda _: Face(True, None, FACE + 9), 2))
    assert (LandmarkStore(tmp_path, "own").landmarks(white) == FACE + 9).all()
    with pytest.raises(UnknownNameError, match="unknown face detector 'on'"):
        LandmarkStore(tmp_path, "on")


def test_what_hog_found_before_is_still_known(tmp_path):
    """The name of a file as version 0.1 wrote it, for black pixels."""
    black = np.zeros((20, 30, 3), np.uint8)
    name = hashlib.blake2b(b"hog 2 (20, 30, 3)" + black.tobytes(), digest_size=16).hexdigest()
    (tmp_path / name[:2]).mkdir()
    (tmp_path / name[:2] / f"{name}.json").write_bytes(entry())
    assert (LandmarkStore(tmp_path).landmarks(black) == FACE).all()
