"""Augmentations do what they say, at the amounts they draw, and repeat themselves for the same generator."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from xface.data.augmentation import (
    AUGMENTATIONS,
    Blur,
    Colour,
    Downscale,
    Flip,
    Jpeg,
    Rotation,
    augmentations,
    colour_matrix,
)
from xface.errors import UnknownNameError, UsageError


@pytest.fixture
def picture():
    chance = np.random.default_rng(0)
    return cv2.GaussianBlur(chance.integers(0, 256, (48, 40, 3), dtype=np.uint8), (0, 0), 2)


def always(kind, **settings):
    name = next(name for name, one in AUGMENTATIONS.items() if one is kind)
    return augmentations({name: {"probability": 1, **settings}})


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_keeps_shape_and_type_leaves_its_input_and_is_decided_by_the_generator(name, picture):
    augment, before = augmentations({name: {"probability": 1}}), picture.copy()
    first, _ = augment(picture, np.random.default_rng(1))
    again, _ = augment(picture, np.random.default_rng(1))
    assert first.shape == picture.shape
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert (first == again).all()
    assert (first != picture).any()
    assert (picture == before).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_is_how_often(name, picture):
    augment, chance = augmentations({name: {"probability": 0.3}}), np.random.default_rng(0)
    changed = sum((augment(picture, chance)[0] != picture).any() for _ in range(300))
    assert 60 < changed < 120  # 90 expected, 4 standard deviations of 8 each way
    unchanged, _ = augmentations({name: {"probability": 0}})(picture, chance)
    assert unchanged is picture


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Rotation, {"degrees": 0}),
        (Colour, {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}),
        (Downscale, {"factor": [1, 1]}),
        (Blur, {"sigma": [0.01, 0.01]}),
    ],
)
def test_no_amount_changes_nothing(kind, settings, picture):
    changed, _ = always(kind, **settings)(picture, np.random.default_rng(0))
    assert (changed == picture).all()


def test_flip_mirrors(picture):
    changed, mask = always(Flip)(picture, np.random.default_rng(0), np.eye(48, 40, dtype=np.float32))
    assert (changed == picture[:, ::-1]).all()
    assert (mask == np.eye(48, 40)[:, ::-1]).all()


def test_rotation_turns_about_the_centre_by_at_most_its_degrees():
    disc = np.zeros((101, 101, 3), np.uint8)
    cv2.circle(disc, (85, 50), 4, (255, 255, 255), -1)
    augment, chance, angles = always(Rotation, degrees=10), np.random.default_rng(0), []
    for _ in range(200):
        turned, mask = augment(disc, chance, disc[..., 0].astype(np.float32))
        rows, columns = np.nonzero(turned[..., 0] > 127)
        y, x = 50 - rows.mean(), columns.mean() - 50
        assert np.hypot(x, y) == pytest.approx(35, abs=0.5)
        assert np.abs(mask - turned[..., 0]).max() <= 1  # the mask turns along
        angles.append(np.degrees(np.arctan2(y, x)))
    assert -10.3 < min(angles) < -9
    assert 9 < max(angles) < 10.3


def test_colour_factors_are_those_of_torchvision():
    from torch import from_numpy
    from torchvision.transforms.v2 import functional

    pixels = np.random.default_rng(0).integers(60, 190, (8, 8, 3), dtype=np.uint8)
    tensor = from_numpy(pixels).permute(2, 0, 1)

    def changed(*factors):
        return cv2.transform(pixels, colour_matrix(*factors)).astype(int)

    def theirs(name, factor):
        return getattr(functional, f"adjust_{name}")(tensor, factor).permute(1, 2, 0).numpy()

    assert np.abs(changed(1.2, 1, 1, 0) - theirs("brightness", 1.2)).max() <= 1
    assert np.abs(changed(1, 1, 0.7, 0) - theirs("saturation", 0.7)).max() <= 1
    # contrast is about mid-grey here, about the picture's mean grey there
    assert np.abs(changed(1, 0.5, 1, 0) - (0.5 * pixels + 0.5 * 127.5)).max() <= 1


def test_hue_turns_red_to_green_and_keeps_grey():
    third = colour_matrix(1, 1, 1, 1 / 3)[:, :3]
    assert np.allclose(third @ [255, 0, 0], [0, 255, 0])
    assert np.allclose(colour_matrix(1, 1, 1, 0.1)[:, :3] @ [7, 7, 7], [7, 7, 7])


def test_jpeg_is_a_compression_of_rgb_at_the_quality_drawn(picture):
    compressed, _ = always(Jpeg, quality=[30, 30])(picture, np.random.default_rng(0))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    pillows = np.array(Image.open(file)).astype(int)
    assert np.abs(pillows - compressed).mean() < 0.3
    assert np.abs(pillows - picture).mean() > 1.0


def test_blur_has_its_standard_deviation():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    point = cv2.GaussianBlur(point, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT) * 6
    changed, _ = always(Blur, sigma=[1.5, 1.5])(point, np.random.default_rng(0))

    def variance(pixels):
        weight = pixels[..., 0].astype(float).sum(axis=0)
        return weight @ (np.arange(41) - 20) ** 2 / weight.sum()

    assert variance(changed) - variance(point) == pytest.approx(1.5**2, rel=0.15)


def test_downscale_removes_what_is_finer_than_its_pixels():
    stripes = np.tile(np.array([0, 255], np.uint8)[None, :, None], (32, 16, 3))
    coarse, _ = always(Downscale, factor=[0.5, 0.5])(stripes, np.random.default_rng(0))
    assert set(np.unique(coarse)) <= {127, 128}
    broad = np.repeat(stripes[:, :4], 8, axis=1)
    assert np.abs(augmented_half(broad).astype(int) - broad).mean() < 20


def augmented_half(pixels):
    return always(Downscale, factor=[0.5, 0.5])(pixels, np.random.default_rng(0))[0]


def test_order_is_that_of_the_settings(picture):
    names = ["blur", "flip", "jpeg"]
    assert [type(step) for step in augmentations(names).steps] == [Blur, Flip, Jpeg]
    assert augmentations({"jpeg": None}).steps == (Jpeg(),)
    assert augmentations({"jpeg": {"quality": [50, 60]}}).steps == (Jpeg(quality=(50, 60)),)
    assert augmentations([]).steps == ()


def test_wrong_settings_are_named():
    with pytest.raises(UnknownNameError, match="augmentation 'flipp'; did you mean 'flip'"):
        augmentations(["flipp"])
    with pytest.raises(UnknownNameError, match="unknown rotation setting 'degree'; did you mean 'degrees'"):
        augmentations({"rotation": {"degree": 5}})
    for settings, message in [
        ({"rotation": {"degrees": "ten"}}, "degrees must be a number, not 'ten'"),
        ({"jpeg": {"quality": 50}}, "quality must be a list, not 50"),
        ({"jpeg": {"quality": [90, 50]}}, "the least and the greatest"),
        ({"flip": {"probability": 1.5}}, "not within 0 to 1"),
        ({"downscale": {"factor": [0, 1]}}, "within 0.01 to 1"),
        ({"flip": 0.5}, "must have keys of its own"),
    ]:
        with pytest.raises(UsageError, match=message):
            augmentations(settings)
