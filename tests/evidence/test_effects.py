"""Region effects against planted truths: networks that look at one known region, at several, or at none."""

import numpy as np
import pytest
import torch
from probe_networks import Looking, as_detector
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from xface.errors import UsageError
from xface.evidence.controls import control_areas
from xface.evidence.effects import region_effects
from xface.evidence.hiding import FILLS, NEUTRAL, ShownFace, feathered, hide, inpaint
from xface.evidence.verdicts import face_parts, verdict_effects
from xface.faces.regions import REGIONS
from xface.images.pictures import read_picture

NAMES = list(REGIONS)
SIDE = 112


@pytest.fixture(scope="module")
def faces(shared_data):
    """Twenty real faces with human landmarks, at 112 px; the counterpart is another face."""
    from PIL import Image

    found = []
    for path in sorted((shared_data / "landmarks_68").glob("*.jpg"))[::4]:
        points = np.array(
            [
                line.split()
                for line in path.with_suffix(".pts").read_text().splitlines()
                if line[:1].isdigit()
            ],
            float,
        )
        pixels = read_picture(path).pixels
        scale = SIDE / np.array(pixels.shape[1::-1])
        small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE)), np.float32) / 255
        found.append((torch.from_numpy(small).permute(2, 0, 1).contiguous(), (points + 0.5) * scale - 0.5))
    flat = [image.mean(dim=(1, 2), keepdim=True).expand_as(image).contiguous() for image, _ in found]
    return [ShownFace.of(image, points, other) for (image, points), other in zip(found, flat, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("region", [name for name in NAMES if name != "background"])
def test_the_one_region_that_decides_is_first_by_every_fill(faces, region):
    index, ranked = NAMES.index(region), []
    for face in faces:
        where = face.labels == index
        if where.float().mean() < 0.002:
            continue
        found = region_effects(as_detector(Looking(where)), face, 0, tuple(FILLS))
        ranked.append(np.nanargmax(found.values, axis=1) == index)
    assert len(ranked) >= 18
    assert (np.mean(ranked, axis=0) >= 0.95).all(), np.mean(ranked, axis=0)


class Blind(torch.nn.Module):
    def forward(self, images):
        return torch.tensor([[0.3, -0.2]]).expand(len(images), 2)


def test_a_network_that_ignores_the_picture_has_no_effects(faces):
    for face in faces[:3]:
        found = region_effects(as_detector(Blind()), face, 0)
        assert {row.status for row in found.rows() if row.area} == {"within_noise"}
        assert not found.flips.any()
        assert found.flip_set is None


def test_what_hiding_anything_does_is_within_noise(faces):
    """A network that looks at all of the picture alike finds no feature special beyond its control's size."""
    face = faces[0]
    noise = torch.rand(face.image.shape, generator=torch.Generator().manual_seed(1))
    rough = ShownFace(noise, face.labels, face.iod)
    rows = region_effects(as_detector(Looking(torch.ones(SIDE, SIDE))), rough, 0).rows()
    controls = control_areas(face.labels.numpy())
    discs = controls.masks.mean(axis=(1, 2))[controls.of_region]
    smaller = [row for row, disc in zip(rows, discs, strict=True) if 0 < 1.15 * row.area < disc]
    assert smaller
    assert {row.status for row in smaller} == {"within_noise"}
    background = rows[NAMES.index("background")]
    assert (background.status, background.effect > background.control) == ("unclear", True)


def test_effects_are_differences_of_log_odds_and_flips_of_verdicts(faces):
    face = faces[0]
    mouth, nose = (face.labels == NAMES.index(name) for name in ("mouth", "nose"))
    detail = Looking(mouth)(face.image[None])[0, 0].item() / 50
    detector = as_detector(Looking(mouth, offset=detail / 2))
    found = region_effects(detector, face, 0)
    weights = feathered(mouth[None], face.iod)
    with torch.no_grad():
        for number, fill in enumerate(NEUTRAL):
            before, after = (detector.model(x)[0] for x in (face.image[None], hide(face, weights, fill)))
            expected = (before[0] - before[1]) - (after[0] - after[1])
            assert found.values[number, NAMES.index("mouth")] == pytest.approx(expected.item(), abs=1e-4)
    assert [row.region for row in found.rows() if row.flips] == ["mouth"]
    assert found.flip_set == ("mouth",)
    other = region_effects(detector, face, 1)
    np.testing.assert_allclose(other.values, -found.values, atol=1e-4)

    both = as_detector(EitherOf(mouth, nose, face))
    found = region_effects(both, face, 0)
    assert not found.flips[[NAMES.index("mouth"), NAMES.index("nose")]].any()
    assert found.flip_set is not None
    assert {"mouth", "nose"} <= set(found.flip_set)


class OneAfterAnother(torch.nn.Module):
    """Fake as long as any of the given regions has most of its detail; counts the pictures that it saw."""

    def __init__(self, face, regions):
        super().__init__()
        where = [face.labels == NAMES.index(name) for name in regions]
        self.parts = [Looking(each, gain=1.0) for each in where]
        self.full = [part(face.image[None])[0, 0] for part in self.parts]
        self.weights = torch.arange(len(regions), 0, -1) / 100
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        left = torch.stack([p(images)[:, 0] / f for p, f in zip(self.parts, self.full, strict=True)], dim=1)
        logit = left.amax(dim=1) - 0.7 + left @ self.weights
        return torch.stack([logit, -logit], dim=1)


@pytest.mark.parametrize("count", [2, 3])
def test_the_flip_set_ends_with_the_region_that_changes_the_verdict(faces, count):
    """Whose detail is gone under hiding: each of them must be hidden, the strongest first."""
    regions = ("mouth", "left_eye", "right_eyebrow")[:count]
    network = OneAfterAnother(faces[0], regions)
    found = region_effects(as_detector(network), faces[0], 0)
    controls = len(control_areas(faces[0].labels.numpy()).masks)
    assert found.flip_set is not None
    assert not found.flips.any()
    assert set(regions) <= set(found.flip_set)
    assert network.seen <= 1 + 3 * (len(NAMES) + controls) + 2 * len(NAMES)
    order = sorted(found.flip_set, key=lambda name: -found.effect[NAMES.index(name)])
    weights = [feathered((faces[0].labels == NAMES.index(name))[None], faces[0].iod) for name in order]
    for used, changes in ((weights, True), (weights[:-1], False)):
        joint = torch.cat(used).amax(dim=0)[None]
        called = [network(hide(faces[0], joint, fill)).argmax(dim=1).item() for fill in NEUTRAL]
        assert (sum(called) >= 2) == changes


class EitherOf(torch.nn.Module):
    """Fake as long as one of two regions has most of its detail."""

    def __init__(self, one, other, face):
        super().__init__()
        self.parts = [Looking(each, gain=1.0) for each in (one, other)]
        self.full = [part(face.image[None])[0, 0] for part in self.parts]

    def forward(self, images):
        left = torch.stack([p(images)[:, 0] / f for p, f in zip(self.parts, self.full, strict=True)])
        logit = left.amax(dim=0) - 0.6 + 0.01 * left.sum(dim=0)
        return torch.stack([logit, -logit], dim=1)


def test_a_verdict_that_either_eye_decides_is_turned_by_hiding_both(faces):
    face = faces[0]
    eyes = (face.labels == NAMES.index(name) for name in ("right_eye", "left_eye"))
    detector = as_detector(EitherOf(*eyes, face))
    found = verdict_effects(detector, face, 0, 0.5)
    parts = np.array(found.parts)
    assert parts[found.effects.flips].tolist() == ["eyes"]
    assert not found.control_flips.any()
    assert parts[np.argmax(found.effects.effect)] == "eyes"
    singles = region_effects(detector, face, 0)
    np.testing.assert_allclose(found.effects.values[:, : len(NAMES)], singles.values, atol=1e-5)
    alike = found.control_areas / found.effects.areas
    assert ((alike > 1 / 1.6) & (alike < 1.6))[parts != "background"].all()
    other = verdict_effects(detector, face, 1, 0.5)  # called negative: the same verdict, the same effects
    assert (found.sign, other.sign) == (1, -1)
    np.testing.assert_allclose(other.effects.values, found.effects.values, atol=1e-5)
    assert (other.effects.flips == found.effects.flips).all()
    assert not verdict_effects(detector, face, 0, 0.01).effects.flips.any()


def test_what_is_not_finite_turns_no_verdict(faces):
    class Overflowing(torch.nn.Module):
        def forward(self, images):
            changed = (images != faces[0].image).any(dim=3).any(dim=2).any(dim=1)
            return torch.where(changed, float("nan"), 1.0)[:, None] * torch.tensor([[1.0, -1.0]])

    found = verdict_effects(as_detector(Overflowing()), faces[0], 0, 0.5)
    assert not found.effects.flips.any()
    assert set(found.effects.status) == {"undefined"}


def test_mirrored_regions_are_parts_of_a_face_together():
    def chin(axes):
        return axes.face

    with (
        REGIONS.having("right_ear", chin),
        REGIONS.having("left_ear", chin),
        REGIONS.having("right_arm", chin),
    ):
        parts = face_parts()
    assert parts["ears"] == ("right_ear", "left_ear")
    assert "arms" not in parts
    assert list(parts)[: len(NAMES)] == NAMES


def test_a_region_that_is_not_in_the_picture_is_undefined(faces):
    face = faces[0]
    labels = face.labels.clone()
    labels[labels == NAMES.index("mouth")] = NAMES.index("jaw")
    rows = {
        row.region: row
        for row in region_effects(as_detector(Blind()), ShownFace(face.image, labels, face.iod), 0).rows()
    }
    row = rows["mouth"]
    assert (row.status, row.effect, row.control, row.flips) == ("undefined", None, None, False)
    assert set(row.fills.values()) == {None}


@pytest.mark.parametrize("fill", list(FILLS))
def test_a_fill_changes_what_is_weighted_alone(faces, fill):
    face = faces[0]
    weights = feathered(torch.stack([face.labels == k for k in (0, 4, 6)]), face.iod)
    hidden = hide(face, weights, fill)
    assert hidden.shape == (3, *face.image.shape)
    assert hidden.isfinite().all()
    same = (weights == 0)[:, None].expand_as(hidden)
    assert torch.equal(hidden[same], face.image.expand_as(hidden)[same])
    assert (hidden - face.image).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_the_counterpart_must_be_there(faces):
    face = ShownFace(faces[0].image, faces[0].labels, faces[0].iod)
    with pytest.raises(UsageError, match="needs the paired picture"):
        hide(face, torch.ones(1, SIDE, SIDE), "counterpart")


def test_imputation_against_a_direct_solution(faces):
    """Noisy linear imputation (Rong et al. 2022), to a fifth of how the solution varies."""
    face = faces[0]
    weights = feathered((face.labels == NAMES.index("mouth"))[None], face.iod)
    unknown = (weights[0] > 0).numpy()
    expected = _direct(face.image.numpy(), unknown)
    found = inpaint(face, weights)[0].numpy()[:, unknown].T
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.2 * expected.std(axis=0).mean()


def _direct(image, unknown):
    places = {place: row for row, place in enumerate(zip(*np.nonzero(unknown), strict=True))}
    system, known = lil_matrix((len(places), len(places))), np.zeros((len(places), 3))
    for (y, x), row in places.items():
        for dy, dx in np.ndindex(3, 3):
            near = (y + dy - 1, x + dx - 1)
            weight = 1 / 12 if dy != 1 and dx != 1 else 1 / 6
            if near == (y, x) or not all(0 <= a < SIDE for a in near):
                continue
            system[row, row] += weight
            if near in places:
                system[row, places[near]] -= weight
            else:
                known[row] += weight * image[:, near[0], near[1]]
    return spsolve(system.tocsc(), known)


def test_control_areas_have_the_size_of_their_regions_and_avoid_the_features(faces):
    for face in faces:
        labels = face.labels.numpy()
        found = control_areas(labels)
        features = labels < NAMES.index("forehead")
        for region, number in enumerate(found.of_region):
            if number < 0 or NAMES[region] == "background":
                continue
            disc, area = found.masks[number], (labels == region).sum()
            assert 0.4 * area < disc.sum() < 2.5 * area or disc.sum() < 30
            assert (disc & features).sum() <= 0.35 * disc.sum()
        largest = found.masks.sum(axis=(1, 2)).argmax()
        assert found.of_region[NAMES.index("background")] == largest
