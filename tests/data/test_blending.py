"""Self-blended images: source inside the mask, target outside, the mask inside the face."""

import cv2
import numpy as np
import pytest
from project import ROOT

from xface.data.self_blending import SelfBlending, blend_mask, face_size, self_blend
from xface.errors import UsageError
from xface.faces import find_face
from xface.images.pictures import read_picture

SIZE = 160
STILL = {"tint": 0, "contrast": 0, "frequency": 0, "scale": 0, "shift": 0}


@pytest.fixture(scope="module")
def face():
    """A picture of smooth noise, and 68 points spread over an ellipse in it."""
    chance = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(chance.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), (0, 0), 3)
    pixels = cv2.convertScaleAbs(pixels, alpha=3, beta=-256)
    angle, radius = chance.uniform(0, 2 * np.pi, 68), np.sqrt(chance.random(68))
    points = 80 + np.stack([45 * radius * np.cos(angle), 55 * radius * np.sin(angle)], axis=1)
    return pixels, points


def blend(face, seed, **settings):
    return self_blend(*face, np.random.default_rng(seed), SelfBlending(**settings))


def hull_of(points):
    polygon = cv2.convexHull(np.rint(points).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.uint8), polygon, 1) > 0


@pytest.mark.parametrize("seed", range(6))
def test_outside_the_mask_is_the_target_and_where_it_is_full_the_source(face, seed):
    made = blend(face, seed, ratios=(1.0,))
    assert made.mask.dtype == np.float32
    assert made.mask.min() == 0
    assert made.mask.max() == pytest.approx(1)
    assert (made.image[made.mask == 0] == made.target[made.mask == 0]).all()
    assert (made.image[made.mask > 0.9999] == made.source[made.mask > 0.9999]).all()
    by_hand = made.mask[..., None] * made.source + (1.0 - made.mask[..., None]) * made.target
    assert np.abs(made.image - by_hand).max() < 0.51


@pytest.mark.parametrize("seed", range(6))
def test_mask_is_inside_the_hull_and_covers_much_of_it(face, seed):
    mask, hull = blend(face, seed).mask, hull_of(face[1])
    assert not mask[~hull].any()
    assert (mask > 0).sum() > 0.3 * hull.sum()


@pytest.mark.parametrize("seed", range(6))
def test_exactly_one_copy_is_altered_in_colour(face, seed):
    made = blend(face, seed, scale=0, shift=0)
    same = [(copy == face[0]).all() for copy in (made.source, made.target)]
    assert sorted(same) == [False, True]


def test_identity_if_nothing_changes(face):
    for seed in range(10):
        made = blend(face, seed, **STILL)
        assert (made.image == face[0]).all()
        assert made.mask.any()


def test_the_generator_decides_all(face):
    before = face[0].copy()
    first, again, other = blend(face, 1), blend(face, 1), blend(face, 2)
    assert (first.image == again.image).all()
    assert (first.mask == again.mask).all()
    assert (first.image != other.image).any()
    assert (first.mask != other.mask).any()
    assert (face[0] == before).all()


def test_source_is_moved_and_scaled_as_far_as_the_recipe_says(face):
    """On a picture whose red is x and whose green is y, the source shows where its pixels came from."""
    ramp = np.zeros((SIZE, SIZE, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(SIZE), np.arange(SIZE)[:, None]
    extent, moves, zooms = np.ptp(face[1], axis=0).mean(), [], []
    for seed in range(60):
        recipe = SelfBlending(**{**STILL, "shift": 0.05, "scale": 0.1})
        made = self_blend(ramp, face[1], np.random.default_rng(seed), recipe)
        x, y = face[1].mean(axis=0)
        middle = made.source[int(y) - 20 : int(y) + 22, int(x) - 20 : int(x) + 22].astype(float)
        zooms.append(np.polyfit(np.arange(42), middle[..., 0].mean(axis=0), 1)[0])
        moves.append(((int(x) + 0.5, int(y) + 0.5) - middle[..., :2].mean(axis=(0, 1))) / extent)
    across, down = np.abs(moves).max(axis=0)
    assert 0.045 < across < 0.058
    assert 0.0225 < down < 0.029
    assert 1 / 1.1 - 0.01 < min(zooms) < 0.93
    assert 1.08 < max(zooms) < 1 / 0.9 + 0.01


def test_ratio_is_the_weight_of_the_source(face):
    assert {round(float(blend(face, seed).mask.max()), 4) for seed in range(40)} == {0.25, 0.5, 0.75, 1.0}


def test_no_deformation_and_no_erosion_give_the_hull(face):
    made = blend(face, 0, deformation=0, erosion=(0, 0), ratios=(1.0,), **STILL)
    assert (made.mask == hull_of(face[1])).all()


def test_no_blend_without_a_face_in_the_picture(face):
    assert self_blend(face[0], face[1] + 500, np.random.default_rng(0)) is None


def test_a_face_at_the_edge_and_a_picture_that_is_not_square(face):
    pixels = face[0][:100]
    made = self_blend(pixels, face[1] - (60, 20), np.random.default_rng(0))
    assert made.image.shape == pixels.shape
    assert made.mask.shape == pixels.shape[:2]


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_at_the_pictures_edge_is_that_of_a_larger_picture(seed):
    """A chin below the edge is there all the same: its chord in the last row isn't drawn on inwards."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([50 + 30 * np.cos(angle), 80 + 45 * np.sin(angle)], axis=1)
    extent = face_size(points)
    rim = int(np.ceil(extent / 4 + 5))  # the lowest point is 5 pixels below the edge
    recipe = SelfBlending(ratios=(1.0,), shift=0.1, deformation=0.05)
    small = blend_mask(points, (120, 100), np.random.default_rng(seed), recipe)
    large = blend_mask(points + rim, (120 + 2 * rim, 100 + 2 * rim), np.random.default_rng(seed), recipe)
    assert np.allclose(small, large[rim:-rim, rim:-rim], atol=1e-6)
    assert small[-1].any() or large[rim:-rim, rim:-rim][-1].max() == 0


def test_a_real_photograph():

    pixels = read_picture(ROOT / "samples" / "real.jpg").pixels
    points = find_face(pixels).landmarks
    made = self_blend(pixels, points, np.random.default_rng(3), SelfBlending(ratios=(1.0,)))
    x, y = np.rint(points[30]).astype(int)  # the tip of the nose
    assert made.mask[y, x] > 0.9
    assert made.mask[:10].max() == 0
    assert np.abs(made.image.astype(int) - made.target)[made.mask > 0.5].mean() > 1


@pytest.mark.parametrize(
    "settings",
    [{"probability": 2}, {"of": "fake"}, {"erosion": (0.2, 0.1)}, {"ratios": ()}, {"ratios": (0.0,)}],
)
def test_recipes_without_sense_are_refused(settings):
    with pytest.raises(UsageError):
        SelfBlending(**settings)
