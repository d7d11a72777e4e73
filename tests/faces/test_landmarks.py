import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_regions import FACE as SYMMETRIC

from xface.errors import LandmarkError, UnknownNameError
from xface.faces import (
    LANDMARKERS,
    Landmarker,
    ModelFile,
    face_from_landmarks,
    find_face,
    read_landmarks,
)
from xface.faces.dlib_models import CNN_MODEL, LANDMARK_MODEL
from xface.faces.landmark_cache import LandmarkStore
from xface.faces.plausibility import quarter_turns
from xface.results import Face

FACE = np.linspace(3, 97, 136).reshape(68, 2)


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def interocular(points: np.ndarray) -> float:
    return float(np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0)))


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth, axis=1).mean() / interocular(truth))


def annotated(shared_data: Path, count: int):
    for path in sorted((shared_data / "landmarks_68").glob("*.jpg"))[:count]:
        yield picture(path), read_landmarks(path.with_suffix(".pts")).of(path)


class TestFindFace:
    @pytest.mark.parametrize(("count", "least"), [(20, 19), pytest.param(80, 77, marks=pytest.mark.slow)])
    def test_against_human_annotations(self, shared_data, count, least):
        errors = []
        for pixels, truth in annotated(shared_data, count):
            face = find_face(pixels)
            if face.found:
                errors.append(error(face.landmarks, truth))
        assert len(errors) >= least
        assert np.median(errors) < 0.04
        assert np.max(errors) < 0.10

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("folder", "step", "least"),
        [("portraits_cc0", 1, 1), ("stylegan_ffhq/fake", 50, 1), ("dfdc_pairs/fake", 45, 0.9)],
    )
    def test_most_portraits_and_crops_have_an_upright_face(self, shared_data, folder, step, least):
        paths = sorted((shared_data / folder).glob("*.jpg"))[::step]
        faces = [find_face(picture(path)) for path in paths]
        assert np.mean([face.found for face in faces]) >= least
        assert {quarter_turns(face.landmarks) for face in faces if face.found} == {0}

    def test_a_large_picture_agrees_with_the_small_one(self, shared_data):
        small = picture(shared_data / "multi_face" / "2008_001322.jpg")
        large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        assert error((find_face(large).landmarks + 0.5) / 4 - 0.5, find_face(small).landmarks) < 0.04

    def test_largest_of_three_is_analysed(self, shared_data):
        face = find_face(picture(shared_data / "multi_face" / "2008_001322.jpg"))
        assert face.notes == ("3 faces found: the largest is analysed",)
        left, top, right, bottom = face.box
        assert left < 395 < right  # the man on the right, whose nose is there
        assert top < 198 < bottom
        assert abs(face.landmarks[30] - (395, 198)).max() < 12

    def test_dogs_are_no_faces(self, shared_data):
        face = find_face(picture(shared_data / "multi_face" / "dogs.jpg"))
        assert (face.found, face.box, face.landmarks) == (False, None, None)

    def test_small_faces_in_a_large_picture(self, shared_data):
        errors = []
        for pixels, truth in annotated(shared_data, 10):
            small = cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            canvas = np.full((300, 400, 3), 128, np.uint8)
            canvas[100 : 100 + len(small), 200 : 200 + small.shape[1]] = small
            face = find_face(canvas)
            if face.found:
                scale = np.array(small.shape[1::-1]) / pixels.shape[1::-1]
                errors.append(error(face.landmarks, (truth + 0.5) * scale - 0.5 + np.array([200, 100])))
        assert len(errors) >= 9
        assert np.median(errors) < 0.05

    def test_tight_crops(self, shared_data):
        errors = []
        for pixels, truth in annotated(shared_data, 10):
            left, top = np.maximum(truth.min(axis=0).astype(int), 0)
            crop = pixels[top : int(truth[:, 1].max()), left : int(truth[:, 0].max())]
            face = find_face(crop)
            if face.found:
                assert 0 <= face.box[0] < face.box[2] <= crop.shape[1]
                assert 0 <= face.box[1] < face.box[3] <= crop.shape[0]
                errors.append(error(face.landmarks + np.array([left, top]), truth))
        assert len(errors) >= 7
        assert np.median(errors) < 0.05

    def test_cnn_finds_what_hog_misses(self, shared_data):
        path = shared_data / "landmarks_68" / "022.jpg"
        assert not find_face(picture(path)).found
        face = find_face(picture(path), detector="cnn")
        assert face.source == "dlib-cnn"
        assert error(face.landmarks, read_landmarks(path.with_suffix(".pts")).of(path)) < 0.10

    @pytest.mark.parametrize(
        ("size", "detector"), [((1, 1), "hog"), ((1, 900), "hog"), ((2000, 2), "hog"), ((17, 33), "cnn")]
    )
    def test_tiny_pictures_have_no_face(self, size, detector):
        assert not find_face(np.full((*size, 3), 90, np.uint8), detector).found

    @pytest.mark.parametrize("found", [
        lambda points: Face(True, None, points.tolist()),
        lambda points: Face(True, np.array([1, 2, 30, 40]), points.astype(np.float32), "", ["odd"]),
        lambda points: Face(np.bool_(True), (1.4, 2.0, 30.2, 40.0), points, "own", ("odd",)),
    ])  # fmt: skip
    def test_what_another_detector_finds_is_in_plain_numbers(self, found, monkeypatch, tmp_path):
        points = SYMMETRIC.astype(np.float32)
        monkeypatch.setitem(LANDMARKERS._entries, "own", Landmarker(lambda pixels: found(points)))
        pixels = np.zeros((300, 300, 3), np.uint8)
        face = find_face(pixels, "own")
        assert (face.landmarks == points).all()
        assert {type(edge) for edge in face.box} == {int}
        assert (face.source, type(face.notes)) == ("own", tuple)
        json.dumps(face.to_json())
        store = LandmarkStore(tmp_path, "own")
        assert (store.landmarks(pixels) == store.landmarks(pixels)).all()
        assert len(list(tmp_path.rglob("*.json"))) == 1

    @pytest.mark.parametrize("points", [None, np.zeros((5, 2)), SYMMETRIC[::-1], SYMMETRIC * np.nan, []])
    def test_what_cannot_be_a_face_is_none_whatever_found_it(self, points, monkeypatch):
        monkeypatch.setitem(LANDMARKERS._entries, "own", Landmarker(lambda _: Face(True, None, points)))
        face = find_face(np.zeros((300, 300, 3), np.uint8), "own")
        assert (face.found, face.box, face.landmarks) == (False, None, None)
        assert points is None or "can't be a face's" in face.notes[0]

    @pytest.mark.parametrize(
        "box", [[0, 0, 5, 5], [900, 78, 1040, 200], [170, 200, 30, 78], [0, 0, 900, 900]]
    )
    def test_a_kept_box_that_is_elsewhere_than_its_points_is_not_believed(self, box, monkeypatch, tmp_path):
        found = Face(True, (30, 78, 170, 200), SYMMETRIC, "own", ())
        monkeypatch.setitem(LANDMARKERS._entries, "own", Landmarker(lambda pixels: found))
        store, pixels = LandmarkStore(tmp_path, "own"), np.zeros((300, 300, 3), np.uint8)
        store.face(pixels)
        [path] = tmp_path.rglob("*.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "box": box}))
        assert store.face(pixels).box == found.box

    def test_unknown_detector(self):
        with pytest.raises(UnknownNameError, match=r"face detector 'hoq'.*'hog'"):
            find_face(np.zeros((9, 9, 3), np.uint8), "hoq")

    @pytest.mark.parametrize(
        ("turns", "count"), [(1, 2), *(pytest.param(turns, 8, marks=pytest.mark.slow) for turns in (1, 2, 3))]
    )
    def test_a_turned_face_is_found_where_it_is(self, shared_data, turns, count):
        """Each lies where it lay, or isn't found; upside down, HOG alone sees other faces in every fourth."""
        found = 0
        paths = [*sorted((shared_data / "landmarks_68").glob("*.jpg"))[: 2 * count],
                 *sorted((shared_data / "portraits_cc0").glob("*.jpg"))[:count]]  # fmt: skip
        for pixels in map(picture, paths):
            upright, turned = find_face(pixels), find_face(np.rot90(pixels, turns))
            if turned.found:
                points = upright.landmarks
                for size in (pixels.shape[1], pixels.shape[0], pixels.shape[1])[:turns]:
                    points = np.stack([points[:, 1], size - 1 - points[:, 0]], axis=1)
                assert error(turned.landmarks, points) < 0.1
                assert (
                    turned.notes[-1] == f"the face is turned by {360 - 90 * turns}° clockwise in the picture"
                )
                left, top, right, bottom = turned.box
                assert 0 <= left < points[30, 0] < right <= pixels.shape[1 - turns % 2]
                assert 0 <= top < points[30, 1] < bottom <= pixels.shape[turns % 2]
                found += 1
        assert found >= 2.75 * count


class TestModelFiles:
    @pytest.mark.parametrize("model", [LANDMARK_MODEL, CNN_MODEL], ids=lambda model: model.name)
    def test_installed_and_intact(self, model):
        assert hashlib.sha256(model.path().read_bytes()).hexdigest() == model.sha256
        assert model.is_intact()

    def test_absent_file_says_where_it_was_looked_for(self):
        model = ModelFile("no_such.dat", "0" * 64, "install it")
        assert model.locate() is None
        with pytest.raises(
            LandmarkError, match=r"models/no_such\.dat.*/usr/share/dlib/no_such\.dat\); install it"
        ):
            model.path()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, r"mmod_human_face_detector\.dat is not installed.*HOG"),
            (b"version https://git-lfs.github.com/spec/v1\n", r"mmod_human_face_detector\.dat is damaged"),
        ],
    )
    def test_a_model_that_is_absent_or_damaged(self, tmp_path, monkeypatch, content, said):
        monkeypatch.setattr("xface.faces.dlib_models.model_folders", lambda: (tmp_path,))
        monkeypatch.setattr("xface.faces.dlib_faces._load", _uncached())
        if content:
            (tmp_path / CNN_MODEL.name).write_bytes(content)
            assert not CNN_MODEL.is_intact()
        with pytest.raises(LandmarkError, match=said):
            find_face(np.zeros((64, 64, 3), np.uint8), "cnn")

    def test_only_finding_a_face_loads_dlib(self):
        code = (
            "import sys, xface.faces as f; f.LANDMARKERS['cnn'].models[0].locate(), f.read_landmarks;"
            "f.REGIONS;"
            "assert 'dlib' not in sys.modules and 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def _uncached():
    from xface.faces import dlib_faces

    return dlib_faces._load.__wrapped__


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _pts(points: np.ndarray, count: object = 68) -> str:
    return f"version: 1\nn_points: {count}\n{{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n"


def _rows(points: np.ndarray) -> str:
    return "\n".join(f"{x},{y}" for x, y in points)


def _table(faces: dict[str, np.ndarray], style: str = "{}{}") -> str:
    count = max(map(len, faces.values()))
    names = [style.format(axis, i) for axis in "xy" for i in range(count)]
    lines = [",".join(["image", *names])]
    lines += [",".join([f'"{name}"', *map(str, points.T.ravel())]) for name, points in faces.items()]
    return "\n".join(lines) + "\n"


class TestReadLandmarks:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.pts", _pts(FACE)),
            ("A.PTS", "\ufeff" + _pts(FACE).replace("\n", "\r\n")),
            ("a.pts", _pts(FACE, "  68 ").replace("n: 1", "n: 1.0").replace("n_p", "N_P")),
            ("a.pts", _pts(FACE).split("68", 1)[1]),
            ("a.pts", _pts(FACE).replace(" ", "\t")),
            ("a.csv", _rows(FACE)),
            ("a.csv", "x,y\n" + _rows(FACE) + "\n\n"),
            ("a.csv", " X, Y\r\n" + _rows(FACE).replace("\n", "\r\n")),
            ("a.csv", _table({"a.jpg": FACE})),
            ("a.csv", _table({"a.jpg": FACE}, " {}_{}")),
            ("a.csv", "\n".join(line.split(",", 1)[1] for line in _table({"": FACE}, "{}_{}").splitlines())),
        ],
    )
    def test_one_face(self, tmp_path, name, text):
        assert np.array_equal(read_landmarks(_write(tmp_path / name, text)).of("a.jpg"), FACE)

    def test_images_by_their_path_as_given(self, tmp_path):
        faces = {"p/1.jpg": FACE, "q/1.jpg": FACE + 1, "1.jpg": FACE + 2, "odd\nnäme, 3.jpg": FACE + 3}
        file = read_landmarks(_write(tmp_path / "a.csv", _table(faces)))
        assert file.names_images
        for name, points in faces.items():
            assert np.array_equal(file.of(name), points)

    @pytest.mark.parametrize(
        ("rows", "image", "served_by"),
        [
            (["a/1.jpg"], "b/1.jpg", None),
            (["a/1.jpg"], "1.jpg", None),
            (["a/1.jpg"], "ba/1.jpg", None),
            (["a/1.jpg"], "/data/a/1.jpg", 0),
            (["a/1.jpg"], "/data/a/b/1.jpg", None),
            (["/data/a/1.jpg"], "a/1.jpg", None),
            (["/data/a/1.jpg"], "/other/data/a/1.jpg", None),
            (["a/1.jpg", "b/1.jpg"], "/data/b/1.jpg", 1),
            (["a/1.jpg", "b/1.jpg"], "c/1.jpg", None),
            (["1.jpg"], "/data/b/1.jpg", 0),
            (["1.jpg", "2.jpg"], Path("b/2.jpg"), 1),
            (["1.jpg", "a/1.jpg"], "b/1.jpg", None),
            (["1.jpg", "a/1.jpg"], "/data/a/1.jpg", 1),
            (["a/1.jpg", "data/a/1.jpg"], "/data/a/1.jpg", None),
            (["", ".", "/"], "a/1.jpg", None),
        ],
    )
    def test_else_by_the_end_of_their_path_but_never_across_folders(
        self, tmp_path, monkeypatch, rows, image, served_by
    ):
        monkeypatch.chdir(tmp_path)
        faces = {name: FACE + index for index, name in enumerate(rows)}
        file = read_landmarks(_write(tmp_path / "a.csv", _table(faces)))
        if served_by is None:
            with pytest.raises(LandmarkError, match=r"a\.csv' has (no landmarks|several rows) for '"):
                file.of(image)
        else:
            assert np.array_equal(file.of(image), FACE + served_by)

    def test_else_by_another_path_to_the_same_file(self, tmp_path, monkeypatch):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.jpg").touch()
        (tmp_path / "link.jpg").symlink_to("a/1.jpg")
        monkeypatch.chdir(tmp_path / "a")
        file = read_landmarks(
            _write(tmp_path / "a.csv", _table({"../a/1.jpg": FACE, "../b/1.jpg": FACE + 1}))
        )
        for path in ("1.jpg", "./1.jpg", tmp_path / "a" / "1.jpg", "../link.jpg"):
            assert np.array_equal(file.of(path), FACE)
        twice = read_landmarks(_write(tmp_path / "b.csv", _table({"./1.jpg": FACE, "../a/1.jpg": FACE + 1})))
        with pytest.raises(
            LandmarkError, match=r"several rows for '1\.jpg' \('\./1\.jpg', '\.\./a/1\.jpg'\)"
        ):
            twice.of("1.jpg")

    @pytest.mark.parametrize("rows", [["odd\n1.jpg"], ["data/odd\n2.jpg", "odd\n2.jpg", "a/odd\n2.jpg"]])
    def test_messages_stay_on_one_line(self, tmp_path, rows):
        path = _write(tmp_path / "odd\nname.csv", _table(dict.fromkeys(rows, FACE)))
        file = read_landmarks(path)
        calls = [
            lambda: file.of("/a/odd\n2.jpg") if len(rows) == 1 else file.of("/b/odd\n2.jpg"),
            lambda: read_landmarks(path.with_suffix(".txt")),
            lambda: read_landmarks(path.with_suffix(".pts")),
            lambda: read_landmarks(_write(path.with_stem("odd\ntwice"), 2 * _table({"a\nb": FACE}))),
            lambda: face_from_landmarks(FACE[:5], str(path)),
        ]
        for call in calls:
            with pytest.raises(LandmarkError) as caught:
                call()
            assert str(caught.value).isprintable()
            assert "odd\\n" in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "text", "complaint"),
        [
            ("a.pts", "version: 1", "0 lists of points"),
            ("a.pts", _pts(FACE) * 2, "2 lists of points"),
            ("a.pts", _pts(FACE[:67], 67), "67 points"),
            ("a.pts", _pts(FACE, 67), "n_points is '67', not 68"),
            ("a.pts", _pts(FACE, "68 69"), "n_points is '68 69', not 68"),
            ("a.pts", _pts(FACE, "6_8"), "n_points is '6_8'"),
            ("a.pts", _pts(FACE, ""), "n_points is '', not 68"),
            ("a.pts", _pts(FACE, "68\nn_points: 68"), "'n_points: 68' .* unknown or twice"),
            ("a.pts", _pts(FACE, "68\nscale: 2"), "'scale: 2' .* unknown or twice"),
            ("a.pts", _pts(FACE).replace("n: 1", "n: 2"), "version is '2', not 1"),
            ("a.pts", _pts(FACE).replace("{", "{ {"), "stands before the points"),
            ("a.pts", _pts(FACE) + "}", "'}' stands behind the points"),
            ("a.pts", _pts(FACE) + "1 2\n", "'1 2' stands behind the points"),
            ("a.pts", _pts(FACE).replace("}", ""), "0 lists of points"),
            ("a.pts", _pts(FACE).replace(" ", ", "), "pair of numbers"),
            ("a.pts", _pts(FACE).replace("3.0", "3_0", 1), "'3_0' is not a number"),
            ("a.pts", _pts(FACE).replace("3.0", "\u0663", 1), "'\u0663' is not a number"),
            ("a.pts", _pts(np.vstack([FACE, FACE[:1]])), "69 points"),
            ("a.pts", _pts(FACE).replace("3.0", "nan", 1), "not finite"),
            ("a.pts", _pts(FACE).replace("3.0", "three", 1), "pair of numbers"),
            ("a.pts", _pts(FACE).replace("3.0 ", "", 1), "pair of numbers"),
            ("a.csv", "\n \n", "empty"),
            ("a.csv", _rows(FACE[:5]), "5 points"),
            ("a.csv", "a,b\n" + _rows(FACE), "pair of numbers"),
            ("a.csv", _rows(FACE).replace("3.0", "inf", 1), "not finite"),
            ("a.csv", "y,x\n" + _rows(FACE), "pair of numbers"),
            ("a.csv", _rows(FACE).replace(",", ";"), "pair of numbers"),
            ("a.csv", _rows(FACE).replace("3.0", "3_0", 1), "'3_0' is not a number"),
            (
                "a.csv",
                _table({"a": FACE}).replace("x0,", "x1,"),
                "columns x1 occur twice|68 pairs|of numbers",
            ),
            ("a.csv", _table({"a": np.vstack([FACE, FACE])}), "columns x68, x69"),
            ("a.csv", _table({"a": FACE}).replace("3.0", "3_0", 1), r"row 1 \('a'\): '3_0' is not a number"),
            ("a.csv", "image,x0\na.jpg,1", "columns y0, x1"),
            ("a.csv", _table({"a": FACE}) + _table({"a": FACE}).splitlines()[1], "image 'a' occurs twice"),
            (
                "a.csv",
                _table({"a": FACE * np.nan}),
                r"no row can be read: row 1 \('a'\): a coordinate is not",
            ),
            ("a.csv", _table({"a": FACE}).replace("x1,", "x1,x1,", 1), "columns x1 occur twice"),
            ("a.csv", _table({"a": FACE, "b": FACE}).replace("image", "frame"), "2 rows but no column image"),
            ("a.csv", _table({"a\0b": FACE}), "null characters"),
            ("a.json", "[]", "not a landmark file"),
        ],
    )
    def test_bad_files_name_the_file_and_what_is_wrong(self, tmp_path, name, text, complaint):
        path = _write(tmp_path / name, text)
        with pytest.raises(LandmarkError, match=complaint) as caught:
            read_landmarks(path)
        assert str(path) in str(caught.value)
        assert "one row per image" in str(caught.value)  # says what was expected

    def test_a_bad_row_costs_its_own_image(self, tmp_path):
        rows = _table({f"{n}.jpg": FACE for n in range(8)}).splitlines()
        rows[2] = "1.jpg,1,2"
        rows[3] = rows[3].replace(",3.0", ",", 1)
        rows += [rows[5], "", ",".join(["5.jpg", *["nan"] * 136])]
        file = read_landmarks(_write(tmp_path / "a.csv", "\n".join(rows)))
        bad = {
            1: "3 cells, not 137",
            2: "is not a number|pair of numbers",
            4: "twice",
            5: "twice",
        }
        for number in range(8):
            if number in bad:
                with pytest.raises(LandmarkError, match=bad[number]):
                    file.of(f"/data/{number}.jpg")
            else:
                assert np.array_equal(file.of(f"{number}.jpg"), FACE)
        [note] = file.notes
        assert "4 rows cannot be read" in note
        assert "row 2 ('1.jpg'): 3 cells" in note

    @pytest.mark.parametrize("suffix", [".pts", ".csv"])
    @pytest.mark.parametrize("junk", [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x00" * 99, b"PK\x03\x04\x00"])
    def test_binary_junk(self, tmp_path, suffix, junk):
        path = tmp_path / f"junk{suffix}"
        path.write_bytes(junk)
        with pytest.raises(LandmarkError, match="junk"):
            read_landmarks(path)

    def test_missing_file_and_folder(self, tmp_path):
        (tmp_path / "folder.pts").mkdir()
        for name in ("none.pts", "none.csv", "folder.pts"):
            with pytest.raises(LandmarkError, match=rf"cannot read '.*{name}'"):
                read_landmarks(tmp_path / name)

    def test_face_from_landmarks(self):
        face = face_from_landmarks(SYMMETRIC, "a.pts")
        assert (face.found, face.source, face.box, face.notes) == (True, "a.pts", (30, 78, 170, 200), ())
        assert np.array_equal(face.landmarks, SYMMETRIC)
        upside_down = face_from_landmarks(200 - SYMMETRIC, "a.pts")
        assert upside_down.notes == ("the face is turned by 180° clockwise in the picture",)
        for bad in (FACE[:5], FACE * np.nan, "no points", SYMMETRIC / 200, SYMMETRIC[::-1]):
            with pytest.raises(LandmarkError, match=r"'a\.pts': "):
                face_from_landmarks(bad, "a.pts")
