"""Each attribute against a planted cause, a figure worked out by hand, or an independent reference."""

from io import BytesIO
from itertools import pairwise, product
from math import isnan

import cv2
import numpy as np
import pytest
from PIL import Image
from project import ROOT
from scipy.ndimage import gaussian_filter, laplace
from scipy.spatial.transform import Rotation
from test_regions import FACE

from xface.errors import LandmarkError
from xface.faces import ATTRIBUTES, face_attributes, find_face, head_pose, read_landmarks, region_labels
from xface.faces.attributes import attribute_words
from xface.faces.pose import MODEL, POINTS
from xface.faces.regions import REGIONS
from xface.images.pictures import read_picture
from xface.runs.attributes import attributes_of

NAMES = ["sharpness", "eye_sharpness", "brightness", "contrast", "exposure", "blockiness", "face_size",
         "eye_openness", "mouth_openness", "yaw", "pitch", "roll"]  # fmt: skip
IN_THE_PICTURE = {"sharpness", "eye_sharpness", "brightness", "contrast", "exposure"}
MIRROR = [
    *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65),
]
"""The landmark that each becomes in a mirrored picture."""


@pytest.fixture(scope="module")
def real():
    pixels = read_picture(ROOT / "samples" / "real.jpg").pixels
    return pixels, find_face(pixels).landmarks


def textured(side: int = 480, seed: int = 0) -> np.ndarray:
    """Noise with detail of about 3 pixels, so that shrinking it to a half loses little."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = gaussian_filter(noise, (3, 3, 0))
    return np.clip(128 + 300 * smooth, 0, 255).astype(np.uint8)


LARGE = (FACE + 0.5) * 2.3 - 0.5
"""The synthetic face of the regions' tests, for a picture of 480 px."""


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def blurred(pixels: np.ndarray, sigma: float, where: np.ndarray | None = None) -> np.ndarray:
    soft = cv2.GaussianBlur(pixels, (0, 0), sigma)
    return soft if where is None else np.where(where[..., None], soft, pixels)


def region(landmarks: np.ndarray, size: tuple[int, int], *names: str) -> np.ndarray:
    return np.isin(region_labels(landmarks, size), [list(REGIONS).index(name) for name in names])


class TestRegistry:
    def test_the_names_in_their_order(self, real):
        assert list(ATTRIBUTES) == NAMES
        assert attribute_words() == attributes_of({})  # until one is added or reworded
        found = face_attributes(*real)
        assert list(found) == NAMES
        assert {type(value) for value in found.values()} == {float}
        assert np.isfinite(list(found.values())).all()


class TestSharpness:
    def test_blurred_eyes_lower_their_own_far_more(self, real):
        pixels, landmarks = real
        eyes = region(landmarks, pixels.shape[:2], "right_eye", "left_eye")
        before = face_attributes(pixels, landmarks)
        after = face_attributes(blurred(pixels, 4, eyes), landmarks)
        part = {name: after[name] / before[name] for name in ("sharpness", "eye_sharpness", "brightness")}
        assert part["eye_sharpness"] < 0.25
        assert part["sharpness"] > 2.5 * part["eye_sharpness"]
        assert part["brightness"] == pytest.approx(1, abs=0.01)

    def test_blur_outside_the_eyes_leaves_theirs(self, real):
        pixels, landmarks = real
        kernel = np.ones((15, 15), np.uint8)  # the copy's pixels at the eyes' edge read some px further
        eyes = region(landmarks, pixels.shape[:2], "right_eye", "left_eye").astype(np.uint8)
        rest = cv2.dilate(eyes, kernel) == 0
        before = face_attributes(pixels, landmarks)
        after = face_attributes(blurred(pixels, 4, rest), landmarks)
        assert after["eye_sharpness"] == pytest.approx(before["eye_sharpness"], rel=0.01)
        assert after["sharpness"] < 0.8 * before["sharpness"]

    @pytest.mark.parametrize("scale", [0.8, 0.6, 0.5, 0.45])
    def test_a_smaller_picture_is_as_sharp(self, scale):
        """Down to the fixed face size: 480 px of picture, 310 of face, to 140."""
        pixels = textured()
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        moved = (LARGE + 0.5) * (small.shape[1] / pixels.shape[1]) - 0.5
        large_face, small_face = face_attributes(pixels, LARGE), face_attributes(small, moved)
        for name in ("sharpness", "eye_sharpness"):
            assert small_face[name] == pytest.approx(large_face[name], rel=0.2)
        assert small_face["face_size"] == pytest.approx(scale * large_face["face_size"], rel=0.01)

    def test_it_grows_with_the_square_of_contrast(self):
        """What a dark face means for it: half the light is a quarter of the sharpness."""
        pixels = textured()
        dark = (pixels // 2).astype(np.uint8)
        ratio = face_attributes(dark, LARGE)["sharpness"] / face_attributes(pixels, LARGE)["sharpness"]
        assert ratio == pytest.approx(0.25, rel=0.02)

    def test_against_scipy_at_the_fixed_size(self):
        """A face that needs no resampling: the variance of SciPy's Laplacian over the regions' face."""
        unit = face_attributes(textured(), LARGE)["face_size"]
        landmarks = (LARGE - LARGE.mean(axis=0)) * 128 / unit + 100
        pixels = textured(200, seed=3)
        luma = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))
        relief = laplace(gaussian_filter(luma, 1.0))
        found = face_attributes(pixels, landmarks)
        face = ~region(landmarks, (200, 200), "background")
        eyes = region(landmarks, (200, 200), "right_eye", "left_eye")
        assert found["face_size"] == pytest.approx(128, abs=1e-3)
        assert found["sharpness"] == pytest.approx(relief[face].var(), rel=0.02)
        assert found["eye_sharpness"] == pytest.approx(relief[eyes].var(), rel=0.05)


class TestLight:
    def test_a_flat_face(self):
        found = face_attributes(np.full((480, 480, 3), 51, np.uint8), LARGE)
        assert found["brightness"] == pytest.approx(0.2)
        assert (found["contrast"], found["exposure"]) == (0, 0)
        assert max(found["sharpness"], found["eye_sharpness"]) < 1e-9

    def test_luma_weighs_the_colours(self):
        pixels = np.zeros((480, 480, 3), np.uint8)
        pixels[:] = (200, 100, 50)
        expected = (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255
        assert face_attributes(pixels, LARGE)["brightness"] == pytest.approx(expected, abs=0.5 / 255)

    def test_only_the_face_counts(self, real):
        pixels, landmarks = real
        changed = pixels.copy()
        outside = region(landmarks, pixels.shape[:2], "background").astype(np.uint8)
        changed[cv2.erode(outside, np.ones((5, 5), np.uint8)) > 0] = 255
        one, other = face_attributes(pixels, landmarks), face_attributes(changed, landmarks)
        for name in ("brightness", "contrast", "exposure"):
            assert other[name] == one[name]

    def test_contrast_of_two_halves(self):
        pixels = np.full((480, 480, 3), 100, np.uint8)
        pixels[::2] = 151
        found = face_attributes(pixels, LARGE)
        assert found["contrast"] == pytest.approx(51 / 2 / 255, rel=1e-3)
        assert found["brightness"] == pytest.approx((100 + 151) / 2 / 255, rel=2e-3)

    @pytest.mark.parametrize(("value", "clipped"), [(0, 1), (5, 1), (6, 0), (249, 0), (250, 1), (255, 1)])
    def test_clipped_pixels(self, value, clipped):
        pixels = np.full((480, 480, 3), 128, np.uint8)
        pixels[:, ::4] = value
        assert face_attributes(pixels, LARGE)["exposure"] == pytest.approx(clipped / 4, abs=0.005)


class TestBlockiness:
    def test_it_rises_as_quality_falls(self):
        pixels = textured()
        found = [
            face_attributes(jpeg(pixels, quality), None)["blockiness"] for quality in (90, 60, 30, 10, 4)
        ]
        assert all(after > before for before, after in pairwise(found))
        assert found[0] < 1.15
        assert found[-1] > 1.5

    @pytest.mark.parametrize("seed", range(4))
    def test_a_picture_that_never_was_a_jpeg_is_neutral(self, seed):
        assert face_attributes(textured(seed=seed), None)["blockiness"] == pytest.approx(1, abs=0.03)

    def test_by_hand(self):
        """Columns step by 3 across the borders and by 1 within; rows do not step: (3 + 0) / (1 + 0)."""
        steps = np.where(np.arange(1, 48) % 8 == 0, 3, 1)
        row = np.concatenate([[0], np.cumsum(steps)]).astype(np.uint8)
        pixels = np.repeat(np.tile(row, (40, 1))[..., None], 3, axis=2)
        assert face_attributes(pixels, None)["blockiness"] == pytest.approx(3)
        assert face_attributes(pixels.swapaxes(0, 1), None)["blockiness"] == pytest.approx(3)

    @pytest.mark.parametrize(
        ("orientation", "format"),
        [*((turn, "JPEG") for turn in range(1, 9)), (6, "PNG"), (3, "TIFF"), (8, "WEBP")],
    )
    def test_an_exif_turn_leaves_it(self, tmp_path, orientation, format):
        """What a file of 101 by 83 pixels holds, whichever way up it is shown; the grid is the file's."""
        stored, exif, path = jpeg(textured(101)[:83], 10), Image.Exif(), tmp_path / f"a.{format.lower()}"
        exif[0x0112] = orientation
        options = {"quality": 10} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
        Image.fromarray(stored).save(path, format, exif=exif, **options)
        held = np.asarray(Image.open(path)) if format == "JPEG" else stored
        luma = cv2.cvtColor(held, cv2.COLOR_RGB2GRAY)
        across = [np.abs(np.diff(luma.astype(int), axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
        border, within = (
            sum(steps[(np.arange(1, len(steps) + 1) % 8 == 0) == on].mean() for steps in across)
            for on in (True, False)
        )
        assert border / within > 1.5
        picture = read_picture(path)
        assert picture.pixels.shape[:2] == ((83, 101) if orientation < 5 else (101, 83))
        assert face_attributes(picture, None)["blockiness"] == pytest.approx(border / within, rel=1e-3)

    @pytest.mark.parametrize(("side", "defined"), [(31, False), (32, True)])
    def test_it_needs_32_pixels(self, side, defined):
        assert isnan(face_attributes(textured(64)[:side], None)["blockiness"]) is not defined

    def test_a_flat_picture_has_none(self):
        assert isnan(face_attributes(np.full((64, 64, 3), 9, np.uint8), None)["blockiness"])


def eye(gaps: tuple[float, float], width: float, at: tuple[float, float]) -> np.ndarray:
    """Six points, first corner to the left; the lids `gaps` apart."""
    x, y = at
    upper = [(x + width / 3, y - gaps[0] / 2), (x + 2 * width / 3, y - gaps[1] / 2)]
    lower = [(x + 2 * width / 3, y + gaps[1] / 2), (x + width / 3, y + gaps[0] / 2)]
    return np.array([(x, y), *upper, (x + width, y), *lower])


class TestOpenness:
    def test_eyes_by_hand(self):
        points = FACE.copy()
        points[36:42] = eye((6, 10), 30, (60, 100))  # (6 + 10) / 60
        points[42:48] = eye((3, 3), 20, (120, 100))  # (3 + 3) / 40
        expected = (16 / 60 + 6 / 40) / 2
        assert face_attributes(textured(240), points)["eye_openness"] == pytest.approx(expected)

    def test_mouth_by_hand(self):
        """Inner lips of 36 across, 4, 4 and 4 apart; then the lower lip 9 further down."""
        assert face_attributes(textured(240), FACE)["mouth_openness"] == pytest.approx(4 / 36)
        points = FACE.copy()
        points[65:68, 1] += 9
        assert face_attributes(textured(240), points)["mouth_openness"] == pytest.approx(13 / 36)

    def test_an_open_mouth_is_no_nod(self):
        points = FACE.copy()
        points[[*range(4, 13), *range(55, 60), 65, 66, 67], 1] += 15  # jaw, chin and lower lip go down
        one, other = (face_attributes(textured(240), face) for face in (FACE, points))
        assert [other[name] for name in ("yaw", "pitch", "roll")] == [
            one[name] for name in ("yaw", "pitch", "roll")
        ]

    def test_a_mouth_without_width_has_none(self):
        points = FACE.copy()
        points[60] = points[64]
        assert isnan(face_attributes(textured(240), points)["mouth_openness"])


def projected(
    yaw: float, pitch: float, roll: float, size: tuple[int, int], at=(0.0, 0.0, 400.0)
) -> np.ndarray:
    """The model's points as a pinhole camera shows them, with focal length = width, turned by SciPy.

    Yaw to the viewer's right is a turn about the axis y, which points down, by a negative angle; so is pitch
    upwards about x, which points right.
    """
    turn = Rotation.from_euler("ZYX", [roll, -yaw, -pitch], degrees=True)
    height, width = size
    landmarks = np.tile(FACE.mean(axis=0), (68, 1))
    for index, point in zip(POINTS, MODEL, strict=True):
        x, y, z = turn.apply(point) + at
        landmarks[index] = (width * x / z + (width - 1) / 2, width * y / z + (height - 1) / 2)
    return landmarks


class TestPose:
    def test_planted_angles_come_back(self):
        for angles in product((-60, -25, 0, 10, 45), (-30, 0, 20), (-40, 0, 15)):
            found = head_pose(projected(*angles, (240, 320)), (240, 320))
            assert found == pytest.approx(angles, abs=0.01)

    def test_half_a_pixel_of_noise_costs_few_degrees(self):
        rng, errors = np.random.default_rng(0), []
        for _ in range(50):
            angles = rng.uniform(-25, 25, 3)
            points = projected(*angles, (400, 400), at=(*rng.uniform(-30, 30, 2), 350))
            found = head_pose(points + rng.normal(scale=0.5, size=points.shape), (400, 400))
            errors.append(np.abs(np.array(found) - angles))
        assert (np.mean(errors, axis=0) < [1.5, 2.0, 0.5]).all()

    def test_which_way_is_positive(self):
        """The nose goes to the viewer's right, and up; the head's top goes to the viewer's right."""
        straight = projected(0, 0, 0, (300, 300))
        nose, eyes, mouth = [31, 35], [36, 39, 42, 45], [48, 54]

        def moved(angles, points, axis):
            turned = projected(*angles, (300, 300))
            return float((turned - straight)[points, axis].mean())

        assert moved((20, 0, 0), nose, 0) > moved((20, 0, 0), eyes, 0) + 1
        assert moved((0, 20, 0), nose, 1) < moved((0, 20, 0), eyes, 1) - 1
        assert moved((0, 0, 20), eyes, 0) > 1 > -1 > moved((0, 0, 20), mouth, 0)

    @pytest.mark.parametrize("degrees", [-30, 10, 45])
    def test_a_turn_in_the_picture_is_roll_alone(self, degrees):
        points, centre = projected(15, -10, 5, (300, 300)), 149.5
        turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
        found = head_pose((points - centre) @ turn.T + centre, (300, 300))
        assert found == pytest.approx((15, -10, 5 + degrees), abs=0.01)

    def test_the_model_is_symmetric_and_about_its_mean(self):
        assert MODEL[::2] * [-1, 1, 1] == pytest.approx(MODEL[1::2])
        assert MODEL.mean(axis=0) == pytest.approx(0, abs=0.02)
        assert [MIRROR[a] for a in POINTS[::2]] == POINTS[1::2]

    def test_a_face_behind_the_camera_has_none(self):
        points = np.full((68, 2), 50.0)
        assert all(map(isnan, head_pose(points, (100, 100))))


class TestAll:
    def test_a_mirrored_face_flips_yaw_and_roll_alone(self, real):
        pixels, landmarks = real
        flipped = np.ascontiguousarray(pixels[:, ::-1])
        points = (landmarks * [-1, 1] + [pixels.shape[1] - 1, 0])[MIRROR]
        one, other = face_attributes(pixels, landmarks), face_attributes(flipped, points)
        assert abs(one["yaw"]) > 1  # else there would be nothing to flip
        for name in NAMES:
            sign = -1 if name in ("yaw", "roll") else 1
            assert other[name] == pytest.approx(sign * one[name], rel=0.03, abs=0.01), name

    def test_without_a_face_only_blockiness_is_defined(self, real):
        found = face_attributes(real[0], None)
        assert [name for name in NAMES if not isnan(found[name])] == ["blockiness"]
        assert found["blockiness"] == face_attributes(*real)["blockiness"]

    @pytest.mark.parametrize(
        "points",
        [
            np.zeros((68, 2)),
            np.full((68, 2), np.nan),
            np.where(np.arange(68)[:, None] == 40, np.inf, FACE),
            np.stack([np.arange(68.0), np.arange(68.0)], axis=1) * 1e12,
            np.full((68, 2), 1e300),
        ],
        ids=["one place", "nan", "inf", "far", "farther"],
    )
    def test_degenerate_landmarks_are_no_face(self, points):
        found = face_attributes(textured(240), points)
        assert [name for name in NAMES if not isnan(found[name])] == ["blockiness"]

    def test_a_face_outside_the_picture_has_a_pose_but_no_light(self):
        found = face_attributes(textured(240), FACE + 1000)
        assert {name for name in NAMES if isnan(found[name])} == IN_THE_PICTURE

    @pytest.mark.parametrize("seed", range(10))
    def test_no_landmarks_make_it_fail(self, seed):
        rng = np.random.default_rng(seed)
        points = rng.normal(scale=10 ** rng.uniform(-9, 6), size=(68, 2)) + rng.uniform(-300, 300)
        if seed % 2:
            points[:, 1] = points[:, 0]  # a line
        assert list(face_attributes(textured(64), points)) == NAMES

    def test_landmarks_of_another_number_are_refused(self):
        with pytest.raises(LandmarkError, match="68 pairs, not an array of shape \\(5, 2\\)"):
            face_attributes(textured(64), np.ones((5, 2)))


def test_human_landmarks_of_80_faces(shared_data):
    folder = shared_data / "landmarks_68"
    if not folder.is_dir():
        pytest.skip(f"test data absent: {folder}")
    rows = [
        face_attributes(read_picture(path).pixels, read_landmarks(path.with_suffix(".pts")).of(path.name))
        for path in sorted(folder.glob("*.jpg"))
    ]
    table = {name: np.array([row[name] for row in rows]) for name in NAMES}
    assert len(rows) == 80
    assert np.isfinite(list(table.values())).all()
    medians = {name: float(np.median(values)) for name, values in table.items()}
    assert 0.2 < medians["eye_openness"] < 0.35  # open eyes
    assert 0 <= table["mouth_openness"].min() < 0.05 < table["mouth_openness"].max() < 1.5
    assert max(abs(medians["yaw"]), abs(medians["roll"])) < 3
    assert abs(medians["pitch"]) < 12
    assert np.percentile(np.abs([table["yaw"], table["pitch"], table["roll"]]), 90) < 45
    assert 0.05 < medians["contrast"] < 0.3
    assert 0.2 < medians["brightness"] < 0.8
    assert table["exposure"].max() < 0.5
    assert 100 < table["face_size"].min() < table["face_size"].max() < 260
