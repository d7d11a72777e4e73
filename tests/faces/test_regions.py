import cv2
import numpy as np
import pytest

from xface.errors import LandmarkError
from xface.faces import REGIONS, read_landmarks, region_labels, region_outlines

NAMES = list(REGIONS)
SIZE = (240, 200)


def symmetric_face() -> np.ndarray:
    """A frontal face, symmetric about x = 100: eyes at (70, 100) and (130, 100), chin at (100, 200)."""
    half = np.linspace(0, 1, 9)
    right_jaw = np.stack([100 - 70 * np.cos(half * np.pi / 2), 100 + 100 * np.sin(half * np.pi / 2)], axis=1)
    right_brow = np.array([(45, 84), (53, 80), (62, 78), (72, 79), (85, 84)])
    right_eye = np.array([(58, 100), (65, 95), (75, 95), (82, 100), (75, 105), (65, 105)])
    nose = np.array([(100, y) for y in (104, 114, 124, 134)] + [(x, 140) for x in (88, 94, 100, 106, 112)])
    outer = [(78, 165), (85, 160), (94, 158), (100, 159), (106, 158), (115, 160), (122, 165)]
    outer += [(115, 171), (106, 174), (100, 175), (94, 174), (85, 171)]
    inner = [(82, 165), (94, 163), (100, 163), (106, 163), (118, 165), (106, 167), (100, 167), (94, 167)]
    left_jaw, left_brow, left_eye = (mirror(part) for part in (right_jaw[:8], right_brow, right_eye))
    left_eye = left_eye[[3, 2, 1, 0, 5, 4]]
    parts = [right_jaw, left_jaw[::-1], right_brow, left_brow[::-1], nose, right_eye, left_eye, outer, inner]
    return np.concatenate([np.asarray(part, float) for part in parts])


def mirror(points: np.ndarray) -> np.ndarray:
    return np.stack([200 - points[:, 0], points[:, 1]], axis=1)


def turned(points: np.ndarray, degrees: float, centre: np.ndarray) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - centre) @ matrix.T + centre


def name_at(labels: np.ndarray, x: float, y: float) -> str:
    return NAMES[labels[round(y), round(x)]]


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


FACE = symmetric_face()
LABELS = region_labels(FACE, SIZE)


def area(name: str) -> float:
    return float((NAMES.index(name) == LABELS).mean())


class TestDefinitions:
    def test_the_synthetic_face_is_what_it_says(self):
        assert FACE.shape == (68, 2)
        assert FACE[36:42].mean(axis=0).tolist() == [70, 100]
        assert FACE[42:48].mean(axis=0).tolist() == [130, 100]
        assert FACE[8].tolist() == [100, 200]

    @pytest.mark.parametrize(
        ("region", "inside", "outside"),
        # IOD is 60: eyes grow by 6, eyebrows by 4.8, mouth and nose by 3.6; a nose bridge of +-6
        [
            ("right_eye", [(70, 100), (52, 100), (70, 89)], [(51, 100), (70, 88), (130, 100)]),
            ("left_eye", [(130, 100), (148, 100), (130, 89)], [(149, 100), (130, 88), (70, 100)]),
            ("right_eyebrow", [(62, 78), (62, 74), (41, 84), (89, 84)], [(62, 72), (40, 84), (91, 84)]),
            ("left_eyebrow", [(138, 78), (138, 74), (159, 84), (111, 84)], [(138, 72), (160, 84), (109, 84)]),
            ("mouth", [(100, 165), (75, 165), (125, 165), (100, 178)], [(74, 165), (126, 165), (100, 179)]),
            (
                "nose",
                [(100, 120), (91, 104), (109, 104), (85, 140), (100, 143)],
                [(90, 104), (84, 140), (100, 144)],
            ),
            ("forehead", [(100, 70), (100, 50), (140, 60)], [(100, 82), (100, 33)]),
            ("jaw", [(100, 190), (100, 200), (60, 170)], [(60, 164), (100, 202)]),
            ("right_cheek", [(60, 130), (99, 95), (99, 150)], [(60, 166), (101, 150), (28, 102)]),
            ("left_cheek", [(140, 130), (101, 95), (101, 150)], [(140, 166), (99, 150), (172, 102)]),
            ("background", [(0, 0), (5, 230), (100, 202), (199, 239)], [(100, 190), (100, 40)]),
        ],
    )
    def test_planted_points(self, region, inside, outside):
        assert [name_at(LABELS, *point) for point in inside] == [region] * len(inside)
        assert region not in [name_at(LABELS, *point) for point in outside]

    def test_top_of_the_arch(self):
        brow = 200 - FACE[17:27, 1].mean()
        top = np.flatnonzero((NAMES.index("forehead") == LABELS).any(axis=1)).min()
        highest = 84 - 0.4 * brow  # the innermost eyebrow points, raised nearly all the way
        assert abs(top - highest) < 2.5

    def test_every_region_is_there_and_they_cover_the_picture(self):
        assert sorted(set(LABELS.ravel())) == list(range(len(REGIONS)))
        assert (LABELS.dtype, LABELS.shape) == (np.uint8, SIZE)

    def test_symmetric_face_has_symmetric_regions(self):
        swapped = {
            name: name.replace("right", "L").replace("left", "right").replace("L", "left") for name in NAMES
        }
        table = np.array([NAMES.index(swapped[name]) for name in NAMES])
        mirrored = table[region_labels(FACE, (240, 201))[:, ::-1]]
        differ = region_labels(FACE, (240, 201)) != mirrored
        assert not differ[:, :100].any()  # the midline itself belongs to the left
        assert not differ[:, 101:].any()

    def test_area_of_an_eye(self):
        polygon, radius = 17 * 10.0, 6.0  # a hexagon 24 wide and 10 high: area 24 x 10 - 4 x (7 x 5 / 2)
        perimeter = 4 * np.hypot(7, 5) + 2 * 10
        expected = polygon + perimeter * radius + np.pi * radius**2  # Steiner's formula
        assert area("right_eye") * LABELS.size == pytest.approx(expected, rel=0.02)

    def test_left_and_right_stay_the_subjects_in_a_mirrored_picture(self):
        labels = region_labels(mirror(FACE), SIZE)
        assert name_at(labels, 130, 100) == "right_eye"
        assert name_at(labels, 140, 130) == "right_cheek"


class TestMotion:
    @pytest.mark.parametrize("degrees", [-150, -90, -35, 10, 45, 90, 180])
    def test_regions_turn_with_the_landmarks(self, degrees):
        size, centre, offset = (400, 400), np.array([199.5, 199.5]), np.array([100.0, 80.0])
        upright = region_labels(FACE + offset, size)
        labels = region_labels(turned(FACE + offset, degrees, centre), size)
        back = (
            turned(np.indices(size)[::-1].reshape(2, -1).T.astype(float), -degrees, centre)
            .round()
            .astype(int)
        )
        inside = ((back >= 0) & (back < 400)).all(axis=1)
        expected = np.full(size, NAMES.index("background"), np.uint8)
        expected.ravel()[inside] = upright[back[inside, 1], back[inside, 0]]
        for index, name in enumerate(NAMES):
            assert intersection_over_union(labels == index, expected == index) > 0.9, name
        if degrees % 90 == 0:
            assert (labels != expected).mean() < 1e-3

    @pytest.mark.parametrize("scale", [2, 3, 5])
    def test_regions_grow_with_the_landmarks(self, scale):
        large = region_labels((FACE + 0.5) * scale - 0.5, (SIZE[0] * scale, SIZE[1] * scale))
        expected = LABELS.repeat(scale, axis=0).repeat(scale, axis=1)
        for index, name in enumerate(NAMES):
            assert intersection_over_union(large == index, expected == index) > 0.9, name
            assert (large == index).mean() == pytest.approx(area(name), rel=0.03), name

    @pytest.mark.parametrize("shift", [(-60, -80), (90, 0), (0, 120), (500, 500), (-1e7, 3)])
    def test_a_face_cut_by_the_edge_is_the_whole_face_cut(self, shift):
        whole = np.full((1500, 1500), NAMES.index("background"), np.uint8)
        whole[600:840, 600:800] = LABELS
        x, y = (int(max(part, -600)) for part in shift)
        expected = whole[600 - y : 600 - y + SIZE[0], 600 - x : 600 - x + SIZE[1]]
        assert np.array_equal(region_labels(FACE + np.array(shift), SIZE), expected)


class TestOnAnnotatedFaces:
    def test_landmarks_lie_in_their_regions(self, shared_data):
        wrong = {"right_eye": range(36, 42), "left_eye": range(42, 48), "mouth": range(48, 68)}
        wrong |= {"nose": range(29, 36)}
        for path in sorted((shared_data / "landmarks_68").glob("*.pts")):
            points = read_landmarks(path).of(path)
            labels = region_labels(points, (500, 500))
            for region, indices in wrong.items():
                at = points[list(indices)].round().astype(int)
                names = {NAMES[index] for index in labels[at[:, 1].clip(0), at[:, 0].clip(0)]}
                assert region in names, path.name
                assert names <= {region, "right_eye", "left_eye", "mouth"}, path.name  # overlaps, by order

    def test_right_is_on_the_left_of_the_picture(self, shared_data):
        for path in sorted((shared_data / "landmarks_68").glob("*.pts")):
            labels = region_labels(read_landmarks(path).of(path), (500, 500))
            for part in ("eye", "eyebrow", "cheek"):
                right, left = (
                    np.nonzero(labels == NAMES.index(f"{side}_{part}"))[1].mean()
                    for side in ("right", "left")
                )
                assert right < left, path.name


class TestOutlines:
    def test_filled_outlines_are_the_regions(self):
        drawn = np.full(SIZE, NAMES.index("background"), np.uint8)
        for name, polygon in reversed(region_outlines(FACE, SIZE)):
            assert polygon.ndim == 2
            assert polygon.shape[1] == 2
            cv2.fillPoly(drawn, [np.round(polygon * 256).astype(int)], NAMES.index(name), shift=8)
        for index, name in enumerate(NAMES):
            assert intersection_over_union(drawn == index, index == LABELS) > 0.85, name


class TestDegenerate:
    @pytest.mark.parametrize(
        "points",
        [
            np.zeros((68, 2)),
            np.full((68, 2), np.nan),
            FACE[:67],
            np.where(np.arange(68)[:, None] == 3, np.inf, FACE),
            np.concatenate([FACE[:42], FACE[36:42], FACE[48:]]),
            np.concatenate([FACE[[8] * 17], FACE[17:]]),
            np.concatenate([FACE[:8], [[100.0, 100.0]], FACE[9:]]),
        ],
    )
    def test_landmarks_that_span_no_face(self, points):
        with pytest.raises(LandmarkError, match="landmarks"):
            region_labels(points, SIZE)

    def test_a_face_smaller_than_a_pixel(self):
        labels = region_labels(FACE * 1e-3 + 50, SIZE)
        assert (labels != NAMES.index("background")).sum() <= 1
