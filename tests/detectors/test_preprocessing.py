"""Preprocessing against plain arithmetic and torchvision; geometry against planted pixels."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from xface.errors import ImageError, UsageError
from xface.images.pictures import Picture
from xface.preprocessing import PRESETS, Preprocessing


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return Picture("noise", np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


SIZES = [(256, 256), (300, 200), (201, 333), (97, 480), (224, 224), (1000, 777), (30, 17)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_and_crop_are_torchvisions(height: int, width: int, interpolation: str) -> None:
    picture = noise(height, width)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mode = InterpolationMode(interpolation)
    theirs = Compose([Resize(256, mode), CenterCrop(224), ToTensor(), Normalize(mean, std)])
    ours = Preprocessing((224, 224), 256, interpolation=interpolation, mean=mean, std=std).prepare(picture)
    torch.testing.assert_close(ours.tensor, theirs(Image.fromarray(picture.pixels)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stretch_is_torchvisions(height: int, width: int) -> None:
    picture = noise(height, width)
    theirs = Compose([Resize((256, 256)), ToTensor()])(Image.fromarray(picture.pixels))
    assert torch.equal(PRESETS["meso"].prepare(picture).tensor, theirs)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (16, 62_500)])
def test_seed_preset_is_opencvs(height: int, width: int) -> None:
    """The followed system: cv2.imread's BGR, albumentations' Resize (cv2.resize, INTER_LINEAR), /255."""
    picture = noise(height, width)
    bgr = np.ascontiguousarray(picture.pixels[..., ::-1])
    theirs = cv2.resize(bgr, (224, 224), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    assert torch.equal(PRESETS["seed"].prepare(picture).tensor, torch.from_numpy(theirs).permute(2, 0, 1))


def test_opencv_bilinear_takes_the_four_nearest_pixels() -> None:
    """Shrunk fourfold, each pixel is the mean of the 2x2 in the middle of its 4x4, and of nothing else."""
    picture = noise(64, 64)
    view = Preprocessing((16, 16), interpolation="opencv_bilinear").prepare(picture).view
    blocks = picture.pixels.reshape(16, 4, 16, 4, 3)[:, 1:3, :, 1:3].astype(float)
    assert np.abs(blocks.mean(axis=(1, 3)) - view).max() <= 0.5


def test_seed_preset_by_plain_arithmetic() -> None:
    picture = noise(224, 224)
    tensor = PRESETS["seed"].prepare(picture).tensor
    for y, x in [(0, 0), (5, 200), (223, 223)]:
        red, green, blue = (float(v) for v in picture.pixels[y, x])
        assert tensor[:, y, x].tolist() == pytest.approx([blue / 255, green / 255, red / 255])


def test_mean_and_std_stand_in_the_order_of_the_colours() -> None:
    settings = Preprocessing((16, 16), colours="BGR", scale=1, mean=(10, 20, 30), std=(2, 4, 8))
    pixels = np.broadcast_to(np.uint8([200, 100, 50]), (16, 16, 3)).copy()
    tensor = settings.prepare(Picture("flat", pixels)).tensor
    assert tensor[:, 3, 7].tolist() == [(50 - 10) / 2, (100 - 20) / 4, (200 - 30) / 8]


@pytest.mark.parametrize("preset", PRESETS)
def test_view_holds_the_pixels_before_normalisation(preset: str) -> None:
    settings = PRESETS[preset]
    prepared = settings.prepare(noise(300, 310))
    plain = prepared.tensor.permute(1, 2, 0).numpy() * settings.std + settings.mean
    rgb = plain[..., ::-1] if settings.colours == "BGR" else plain
    np.testing.assert_array_equal(np.rint(rgb * 255).astype(np.uint8), prepared.view)
    assert prepared.view.shape == (*(settings.size or (300, 310)), 3)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("height", "width"), [(512, 512), (900, 600), (611, 1003)])
def test_a_dot_is_found_where_geometry_says(preset: str, height: int, width: int) -> None:
    """The dot's centre of mass in the input is its mapped position, to a twentieth of a pixel.

    It is a Gaussian, wide enough for interpolations that leave pixels out.
    """
    x, y = width // 2 + 70, height // 2 - 90
    rows, columns = np.indices((height, width))
    dot = np.rint(255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 8**2))).astype(np.uint8)
    prepared = PRESETS[preset].prepare(Picture("dot", np.stack([dot] * 3, -1)))
    mass = prepared.view[..., 0].astype(float)
    rows, columns = np.indices(mass.shape)
    centre = [(columns * mass).sum() / mass.sum(), (rows * mass).sum() / mass.sum()]
    assert prepared.geometry.to_input(np.array([x, y])) == pytest.approx(centre, abs=0.05)


@pytest.mark.parametrize("preset", PRESETS)
def test_geometry_there_and_back(preset: str) -> None:
    geometry = PRESETS[preset].prepare(noise(123, 457)).geometry
    points = np.random.default_rng(1).uniform(0, 450, (68, 2))
    np.testing.assert_allclose(geometry.to_original(geometry.to_input(points)), points, atol=1e-9)


def test_corners_of_a_stretched_picture_stay_corners() -> None:
    geometry = PRESETS["meso"].prepare(noise(100, 400)).geometry
    corners = geometry.to_input(np.array([[-0.5, -0.5], [399.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [255.5, 255.5]])


def test_a_very_long_picture_is_refused_where_its_centre_would_be_cropped() -> None:
    """Resized whole, it would have 256 x 1,000,000 pixels."""
    with pytest.raises(ImageError, match=r"'noise'.*62500x16.*crop the picture"):
        PRESETS["imagenet"].prepare(noise(16, 62_500))
    assert PRESETS["meso"].prepare(noise(16, 62_500)).view.shape == (256, 256, 3)


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset: str) -> None:
    assert Preprocessing.from_json(PRESETS[preset].to_json()) == PRESETS[preset]
    assert Preprocessing.from_json(preset) == PRESETS[preset]


@pytest.mark.parametrize(
    "content",
    [
        "imagnet",
        None,
        {},
        {"mean": [0, 0, 0]},
        {"size": 224},
        {"size": [224]},
        {"size": [0, 224]},
        {"size": [224.0, 224]},
        {"size": [True, 224]},
        {"size": [224, 224], "colour": "RGB"},
        {"size": [224, 224], "colours": "GBR"},
        {"size": [224, 224], "shorter_side": 200},
        {"size": [224, 224], "scale": 0},
        {"size": [224, 224], "std": [1, 0, 1]},
        {"size": [224, 224], "mean": [float("nan"), 0, 0]},
        {"size": [224, 224], "mean": ["0", 0, 0]},
        {"size": [224, 224], "interpolation": "cubic"},
    ],
)
def test_settings_without_sense_are_refused(content: object) -> None:
    with pytest.raises(UsageError):
        Preprocessing.from_json(content)


def test_none_keeps_the_pictures_own_pixels() -> None:
    picture = noise(123, 457)
    prepared = PRESETS["none"].prepare(picture)
    assert np.array_equal(prepared.view, picture.pixels)
    assert prepared.view is not picture.pixels
    assert torch.equal(prepared.tensor, torch.from_numpy(picture.pixels).permute(2, 0, 1) / 255)


def test_own_size_ends_at_4096_pixels() -> None:
    with pytest.raises(ImageError, match="a side of its 4097x2 pixels is over 4096"):
        PRESETS["none"].prepare(noise(2, 4097))


@pytest.mark.parametrize(("size", "shorter"), [(None, 256), ((224, 224), 200), ((224, 224), 0)])
def test_a_crop_without_sense_is_refused(size: tuple[int, int] | None, shorter: int) -> None:
    with pytest.raises(UsageError, match="shorter_side"):
        Preprocessing(size, shorter)


def test_inception_runs_from_minus_one_to_one() -> None:
    picture = Picture("dot", np.full((50, 60, 3), (0, 255, 51), np.uint8))
    tensor = PRESETS["inception"].prepare(picture).tensor
    assert tensor.shape == (3, 299, 299)
    torch.testing.assert_close(tensor[:, 7, 9], torch.tensor([-1.0, 1.0, -0.6]))
