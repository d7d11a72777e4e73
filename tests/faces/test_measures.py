import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xface.faces import REGIONS, measure
from xface.results import AttributionMap

NAMES = list(REGIONS)
BACKGROUND = NAMES.index("background")
MEASURES = ("share", "lift", "rank", "peak", "face_share", "face_lift")


def mapped(values, status: str = "ok", layer: str | None = None) -> AttributionMap:
    return AttributionMap("a_method", layer, status, "published", np.asarray(values, np.float32))


def blocks(height: int = 44, width: int = 36, seed: int = 0) -> np.ndarray:
    """Labels of which every region has some, in no tidy shapes."""
    coarse = np.random.default_rng(seed).integers(0, len(REGIONS), (height // 2, width // 2))
    return coarse.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)


def reference(amount: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float | None]]:
    """The measures of a map of the labels' size, pixel by pixel, as their definitions read."""
    pixels = [(float(a), int(r)) for a, r in zip(amount.ravel(), labels.ravel(), strict=True)]
    total, size = sum(a for a, _ in pixels), len(pixels)
    face_total = sum(a for a, r in pixels if r != BACKGROUND)
    face_size = sum(r != BACKGROUND for _, r in pixels)
    return {
        name: _reference_row(pixels, index, total, size, face_total, face_size)
        for index, name in enumerate(NAMES)
    }


def _reference_row(pixels, index, total, size, face_total, face_size):
    mass, count = sum(a for a, r in pixels if r == index), sum(r == index for _, r in pixels)
    face = index != BACKGROUND and face_total > 0
    return {
        "area": count / size,
        "share": mass / total,
        "lift": mass / total / (count / size) if count else None,
        "rank": _part_of_highest(pixels, index, count) if count else None,
        "peak": _part_of_highest(pixels, index, 1),
        "face_share": mass / face_total if face else None,
        "face_lift": mass / face_total / (count / face_size) if face and count else None,
    }


def _part_of_highest(pixels, index, count):
    """The expectation over random orders of the pixels that tie, value by value."""
    left, inside = count, 0.0
    for value in sorted({a for a, _ in pixels}, reverse=True):
        here = [r for a, r in pixels if a == value]
        taken = min(left, len(here))
        inside += here.count(index) * taken / len(here)
        left -= taken
    return inside / count


def check(amap: AttributionMap, amount: np.ndarray, labels: np.ndarray) -> None:
    expected = reference(amount, labels)
    rows = measure(amap, labels)
    assert [row.region for row in rows] == NAMES
    for row in rows:
        assert (row.method, row.layer) == (amap.method, amap.layer)
        for name, value in expected[row.region].items():
            got = getattr(row, name)
            assert got == (None if value is None else pytest.approx(value, abs=1e-9, rel=1e-9)), (
                row.region,
                name,
            )


class TestAgainstTheSlowReference:
    @pytest.mark.parametrize("seed", range(3))
    def test_signed_map(self, seed):
        values = np.random.default_rng(seed).standard_normal((3, 44, 36)).astype(np.float32)
        amount = np.array([[max(abs(values[:, y, x])) for x in range(36)] for y in range(44)])
        check(mapped(values), amount, blocks(seed=seed))

    @pytest.mark.parametrize("levels", [1, 2, 5])
    def test_ties(self, levels):
        values = np.random.default_rng(levels).integers(0, levels + 1, (1, 44, 36)).astype(np.float32)
        check(mapped(values), values[0], blocks())

    def test_sparse_map_whose_threshold_is_zero(self):
        values = np.zeros((1, 44, 36))
        values[0, 3, 4] = values[0, 40, 30] = -2.0
        check(mapped(values), -values[0], blocks())

    @pytest.mark.parametrize("shape", [(7, 7), (1, 1), (11, 9), (44, 36), (60, 50), (5, 13)])
    def test_upsampled_map(self, shape):
        values = np.random.default_rng(1).random(shape).astype(np.float32)
        upsampled = F.interpolate(
            torch.from_numpy(values).double()[None, None], (44, 36), mode="bilinear", align_corners=False
        )
        check(mapped(values, layer="layer4"), upsampled[0, 0].float().numpy(), blocks())

    def test_mass_outside_the_face_only(self):
        labels = blocks()
        values = (labels == BACKGROUND)[None].astype(np.float32)
        check(mapped(values), values[0], labels)

    def test_regions_cut_away(self):
        labels = np.where(blocks() < 6, BACKGROUND, blocks()).astype(np.uint8)
        values = np.random.default_rng(0).random((3, 44, 36)).astype(np.float32)
        check(mapped(values), values.max(axis=0), labels)
        row = measure(mapped(values), labels)[0]
        assert (row.share, row.area, row.lift, row.rank, row.peak) == (0, 0, None, None, 0)


class TestProperties:
    @pytest.mark.parametrize("shape", [(3, 224, 224), (224, 224), (7, 7), (13, 10), (56, 56)])
    @pytest.mark.parametrize("value", [1.0, 0.1, 3e-8, -7.3e5])
    def test_uniform_map_is_chance_everywhere(self, shape, value):
        labels = blocks(224, 224)
        face = (labels != BACKGROUND).mean()
        for row in measure(mapped(np.full(shape, value)), labels):
            assert row.lift == pytest.approx(1)
            assert row.share == pytest.approx(row.area)
            assert row.rank == pytest.approx(row.area)
            assert row.peak == pytest.approx(row.area)
            if row.region != "background":
                assert row.face_lift == pytest.approx(1)
                assert row.face_share == pytest.approx(row.area / face)

    @pytest.mark.parametrize("name", NAMES)
    def test_all_mass_in_one_region(self, name):
        labels = blocks()
        inside = labels == NAMES.index(name)
        for row in measure(mapped(np.stack([inside * -2.0, inside * 0.5])), labels):
            own = float(row.region == name)
            assert row.share == own
            assert row.rank == pytest.approx(own or _zeros_drawn(labels, row.region, name))
            assert row.peak == own
            assert row.lift == pytest.approx(1 / inside.mean() if own else 0)

    @pytest.mark.parametrize("shape", [(3, 44, 36), (7, 7)])
    def test_shares_sum_to_one(self, shape):
        values = np.random.default_rng(5).random(shape)
        rows = measure(mapped(values), blocks())
        for name in ("share", "area", "peak"):
            assert sum(getattr(row, name) for row in rows) == pytest.approx(1)
        assert sum(row.face_share for row in rows if row.region != "background") == pytest.approx(1)

    @pytest.mark.parametrize("factor", [1e-30, 1e-4, 1e30])
    def test_scale_of_the_map_is_of_no_account(self, factor):
        values = np.random.default_rng(6).integers(0, 9, (3, 44, 36)).astype(np.float32)
        for one, other in zip(
            measure(mapped(values), blocks()),
            measure(mapped(values * np.float32(factor)), blocks()),
            strict=True,
        ):
            for name in MEASURES[:4] if one.region == "background" else MEASURES:
                assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5), (one.region, name)


def _zeros_drawn(labels: np.ndarray, region: str, mapped_region: str) -> float:
    """Of a region's own number of highest pixels, those above zero are elsewhere; the others tie at zero."""
    own, full = (int((labels == NAMES.index(name)).sum()) for name in (region, mapped_region))
    return max(own - full, 0) * own / (labels.size - full) / own


class TestUndefined:
    @pytest.mark.parametrize(
        ("status", "value"), [("zero", 0.0), ("non_finite", np.nan), ("non_finite", np.inf)]
    )
    @pytest.mark.parametrize("shape", [(3, 44, 36), (7, 7)])
    def test_no_measures_but_the_areas(self, status, value, shape):
        labels = blocks()
        good = measure(mapped(np.ones(shape)), labels)
        values = np.zeros(shape) if status == "zero" else np.ones(shape)
        values.flat[0] = value  # one place spoils all: by infinity, shares elsewhere would be 0
        for row, other in zip(measure(mapped(values, status), labels), good, strict=True):
            assert [getattr(row, name) for name in MEASURES] == [None] * len(MEASURES)
            assert (row.area, row.coarse) == (other.area, other.coarse)

    def test_background_has_no_part_of_the_face(self):
        row = measure(mapped(np.ones((1, 44, 36))), blocks())[BACKGROUND]
        assert (row.face_share, row.face_lift) == (None, None)


class TestCoarse:
    def test_below_four_cells(self):
        labels = np.full((224, 224), BACKGROUND, np.uint8)  # a cell of a 7x7 map is 32x32 pixels
        labels[:64, :64] = 0  # 4 cells
        labels[64:128, :64] = 1
        labels[64, 0] = BACKGROUND  # one pixel less
        cam = measure(mapped(np.ones((7, 7))), labels)
        assert [row.coarse for row in cam[:2]] == [False, True]
        assert not any(row.coarse for row in measure(mapped(np.ones((3, 224, 224))), labels)[:2])
        assert not cam[BACKGROUND].coarse

    def test_cells_need_not_be_square(self):
        labels = np.full((100, 200), BACKGROUND, np.uint8)
        labels[:20, :80] = 0  # 1,600 pixels: 4 cells of (100/5) x (200/10)
        assert not measure(mapped(np.ones((5, 10))), labels)[0].coarse
        assert measure(mapped(np.ones((5, 9))), labels)[0].coarse
