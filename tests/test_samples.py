"""The sample faces are what samples/README.md says."""

import importlib.util
from types import ModuleType

import cv2
import numpy as np
import pytest
from project import SAMPLES

from xface.faces import find_face
from xface.images.pictures import read_picture

FILES = ("real.jpg", "fake.jpg", "fake_mask.png")


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second)


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    return {name: read_picture(SAMPLES / name).pixels for name in FILES}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("skimage", reason="scikit-image, which ships the portrait, is not installed")
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make_samples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_forgery_is_inside_the_mask(samples):
    changed = difference(samples["real.jpg"], samples["fake.jpg"]).max(axis=2)
    mask = samples["fake_mask.png"][:, :, 0]
    touched = mask.reshape(36, 8, 36, 8).any(axis=(1, 3)).repeat(8, 0).repeat(8, 1)  # JPEG's blocks of 8x8
    assert changed[~touched].max() == 0
    assert changed[mask == 0].mean() < 0.1
    assert changed[mask == 255].mean() > 10
    assert (mask == 255).sum() > 500


def test_mask_lies_on_the_mouth(samples):
    points = find_face(samples["real.jpg"]).landmarks
    mask = samples["fake_mask.png"][:, :, 0]
    at_points = mask[tuple(np.rint(points).astype(int).T[::-1])]
    assert at_points[48:68].min() > 150  # lips
    assert at_points[27:36].max() < 15  # nose, whose tip a smile brings near the lips
    assert at_points[:27].max() == at_points[36:48].max() == 0  # jaw, eyebrows, eyes
    hull = cv2.convexHull(points[48:60].astype(np.float32))
    rows, columns = mask.nonzero()
    distance = [
        -cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x, y in zip(columns, rows, strict=True)
    ]
    assert max(distance) < 0.2 * np.ptp(points[48:60, 0])
    assert mask[rows, columns][np.array(distance) <= 0].sum() > 0.5 * mask.sum()


def test_script_makes_the_committed_files(samples, script, tmp_path):
    script.main(tmp_path)
    for name in FILES:
        again = read_picture(tmp_path / name).pixels
        assert difference(again, samples[name]).mean() < 0.5, name
        assert np.quantile(difference(again, samples[name]), 0.999) <= 8, name
