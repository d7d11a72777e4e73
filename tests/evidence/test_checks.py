"""The checks of evidence against slow references, and what each must say of answers that are known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from test_regions import FACE
from torch import nn

from xface.evidence.baselines import BASELINES
from xface.evidence.checks import CHECKS, Figure, Subject
from xface.evidence.checks.check import face_regions
from xface.evidence.checks.manipulated_pixels import mask_iou, mask_lift, pixel_auc, pointing
from xface.evidence.checks.partial_swap import named_first
from xface.evidence.checks.randomisation import spearman, ssim
from xface.evidence.checks.removal import order
from xface.evidence.checks.stability import CHANGES
from xface.evidence.hiding import ShownFace
from xface.evidence.pairs import difference_mask
from xface.evidence.randomised import cascade, untrained
from xface.evidence.trust.examining import region_masks, region_shares
from xface.faces.regions import REGIONS, region_labels

SIDE = 48
RNG = np.random.default_rng(0)
LABELS = torch.from_numpy(region_labels(FACE * (SIDE / 240), (SIDE, SIDE)))
IMAGE = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
MOUTH = (list(REGIONS).index("mouth") == LABELS).numpy()
IMAGE[:, MOUTH] = 0.7 + 0.3 * IMAGE[:, MOUTH]
FACE_SEEN = ShownFace(IMAGE, LABELS, iod=SIDE / 4)


class AtTheMouth:
    """The score is the brightness of the mouth, its map the mouth; with random weights the picture."""

    stages, boundary = ("head", "body"), 0.0

    def scores(self, images):
        return images[:, :, torch.from_numpy(MOUTH)].mean(dim=(1, 2)).numpy().astype(float)

    def amounts(self, images, stage=None):
        seen = images.mean(dim=1)
        return (torch.from_numpy(MOUTH) * seen if stage is None else seen)[None]

    def pixels(self, image):
        return (image.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)

    def prepared(self, pixels):
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def subject(**known) -> Subject:
    """Its answers are the map of the mouth, that of the untrained network, the baselines, and the effects."""
    network, masks = AtTheMouth(), region_masks(FACE_SEEN)
    own = [make(FACE_SEEN, 0) for make in BASELINES.values()]
    maps = [network.amounts(IMAGE[None], stage)[0, 0] for stage in (None, "body")]
    effects = np.array([float(name == "mouth") for name in face_regions()])
    amounts = torch.stack([*maps, *own, torch.from_numpy(MOUTH).float()])
    shares, ranks = region_shares(amounts, masks)
    shares[-1], ranks[-1] = np.nan, effects
    score = float(network.scores(IMAGE[None])[0])
    return Subject(FACE_SEEN, network, score, amounts, ranks, shares, effects, 1, **known)


KNOWN = {"mask": MOUTH, "pasted": "mouth", "rise": 1.0}
MAP, UNTRAINED, RANDOM, EFFECTS = 0, 1, 4, -1


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_gives_what_it_says_for_each_answer(name):
    check, asked = CHECKS[name], subject(**KNOWN)
    found = check.compute(asked)
    assert {Figure(*figure).name for figure in found} == set(check.figures)
    assert all(np.shape(values) == (len(asked),) for values in found.values())
    for figure, values in found.items():
        if limits := check.figures[Figure(*figure).name].limits:
            defined = values[np.isfinite(values)]
            assert (defined >= limits[0] - 1e-9).all(), figure
            assert (defined <= limits[1] + 1e-9).all(), figure
    again = check.compute(asked)
    assert all(np.array_equal(values, again[figure], equal_nan=True) for figure, values in found.items())


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_that_is_undefined_has_no_figures_and_names_no_region(name):
    asked = subject(**KNOWN)
    asked.amounts[MAP], asked.ranks[MAP], asked.shares[MAP] = torch.nan, np.nan, np.nan
    for figure, values in CHECKS[name].compute(asked).items():
        assert values[MAP] == 0 if figure.name == "partial_swap" else np.isnan(values[MAP])


def figures(name):
    return {figure.name: values for figure, values in CHECKS[name].compute(subject(**KNOWN)).items()}


def test_the_map_that_is_the_truth_passes_every_check():
    pixels = figures("manipulated_pixels")
    assert pixels["pixel_auc"][MAP] == pixels["pixel_iou"][MAP] == pixels["pointing_game"][MAP] == 1
    assert pixels["pixel_lift"][MAP] == pytest.approx(1 / MOUTH.mean())
    assert (figures("partial_swap")["partial_swap"][[MAP, EFFECTS]] == 1).all()
    agreement = figures("region_agreement")
    assert np.nanargmax(agreement["agreement"]) == MAP
    assert np.isnan(agreement["agreement"][EFFECTS])
    removal = figures("removal")
    assert removal["deletion"][MAP] < removal["deletion"][RANDOM] - 0.1
    assert removal["insertion"][MAP] > removal["insertion"][RANDOM]
    assert abs(figures("randomisation")["randomisation"][MAP]) < 0.5


def test_a_map_of_the_picture_is_found_out_by_randomisation():
    asked = subject()
    asked.amounts[MAP] = asked.amounts[UNTRAINED]
    found = CHECKS["randomisation"].compute(asked)
    assert found[Figure("randomisation")][MAP] == pytest.approx(1)
    assert found[Figure("randomisation_ssim")][MAP] == pytest.approx(1)


def test_the_gaussian_lies_at_the_face_and_noise_follows_its_seed():
    at = BASELINES["gaussian"](FACE_SEEN, 0)
    rows, columns = np.nonzero((list(REGIONS).index("background") != LABELS).numpy())
    peak = np.unravel_index(int(at.argmax()), at.shape)
    assert np.abs(np.subtract(peak, (rows.mean(), columns.mean()))).max() <= 0.5
    assert at[peak[0], peak[1] + round(FACE_SEEN.iod)] == pytest.approx(
        float(at.max()) * np.exp(-0.5), rel=0.1
    )
    assert torch.equal(BASELINES["random"](FACE_SEEN, 3), BASELINES["random"](FACE_SEEN, 3))
    assert not torch.equal(BASELINES["random"](FACE_SEEN, 3), BASELINES["random"](FACE_SEEN, 4))


def slow_auc(amounts, mask):
    inside, outside = amounts[mask], amounts[~mask]
    return np.mean([(a > outside).mean() + (a == outside).mean() / 2 for a in inside])


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_measures_of_pixels_agree_with_slow_references(levels):
    amounts, mask = RNG.integers(levels, size=(20, 20)).astype(float), RNG.random((20, 20)) < 0.2
    assert pixel_auc(amounts, mask) == pytest.approx(slow_auc(amounts, mask))
    tied = []
    for _ in range(400):  # ties broken at random, on average
        highest = np.argsort(-amounts.ravel() + 1e-9 * RNG.random(400))[: mask.sum()]
        chosen = np.isin(np.arange(400), highest).reshape(20, 20)
        tied.append((mask & chosen).sum())
    common = np.mean(tied)
    assert mask_iou(amounts, mask) == pytest.approx(common / (2 * mask.sum() - common), rel=0.05)
    share = amounts[mask].sum() / amounts.sum()
    assert mask_lift(amounts, mask) == pytest.approx(share / mask.mean())
    assert pointing(amounts, mask) == pytest.approx(mask[amounts == amounts.max()].mean())


def test_similarities_agree_with_scipy_and_scikit_image():
    from skimage.metrics import structural_similarity

    maps = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    others = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(2))
    others[2] = torch.nan
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps[:2], others[:2], strict=True)]
    np.testing.assert_allclose(spearman(maps, others), [*expected, np.nan], rtol=1e-9)
    scaled = [each.numpy() / each.max().item() for each in (maps[0], others[0])]
    slow = structural_similarity(
        *scaled, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )  # without the border, which scikit-image mirrors otherwise
    assert ssim(maps, others)[0] == pytest.approx(slow, abs=0.02)
    assert np.isnan(ssim(maps, others)[2])


def test_pixels_go_in_the_order_of_the_map_and_ties_at_random():
    amounts = torch.from_numpy(RNG.permutation(100).reshape(1, 10, 10).astype(np.float32))
    assert torch.equal(order(amounts, 0)[0], 99 - amounts[0].long())
    flat = order(torch.zeros(1, 10, 10), 0)[0].flatten().numpy()
    assert sorted(flat) == list(range(100))
    assert abs(spearmanr(flat, np.arange(100)).statistic) < 0.3


def test_a_region_is_named_by_its_rank_and_ties_are_split():
    rows = RNG.random((50, len(face_regions())))
    firsts = np.array([named_first(rows, name) for name in face_regions()])
    assert (firsts.argmax(axis=0) == rows.argmax(axis=1)).all()
    assert (firsts.sum(axis=0) == 1).all()


@pytest.mark.parametrize("name", CHANGES)
def test_a_map_that_follows_the_picture_is_stable(name):
    """Where the map is the picture's brightness itself, what changes is the picture alone."""
    values = figures("stability")[f"stability_{name}"]
    assert values[UNTRAINED] > (0.999 if name in ("shift", "mirror") else 0.8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.scale = nn.Parameter(torch.full((8, 1, 1), 2.0))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head((self.body(x) * self.scale).mean(dim=(2, 3)))


def test_the_cascade_goes_from_the_head_down_and_ends_with_the_untrained_network():
    net = Net().eval()
    net.body[1].running_mean += 5
    with torch.no_grad():
        net.scale += torch.rand(8, 1, 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = cascade(net, ["body.1", "body.3"])
    assert list(found) == ["head", "body.3", "body.1"]
    changed = [
        {name for name, value in each.state_dict().items() if not torch.equal(value, before[name])}
        for each in found.values()
    ]
    assert changed[0] < changed[1] < changed[2]
    assert "head.weight" in changed[0]
    assert not any(name.startswith("body") for name in changed[0])
    assert {"body.1.running_mean", "body.0.weight", "scale"} <= changed[2]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    last, again = found["body.1"].state_dict(), untrained(net).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in last.items())
    assert not torch.equal(untrained(net, 1).head.weight, untrained(net, 2).head.weight)
    assert next(iter(cascade(net, ["nowhere"]))) == "head"


def test_masks_are_where_a_pair_differs_and_unaligned_pairs_have_none():
    real = RNG.integers(80, 90, (60, 60, 3)).astype(np.uint8)
    forged = real.copy()
    forged[20:40, 20:40] += 60
    mask, _ = difference_mask(forged, real)
    inside = np.zeros((60, 60), bool)
    inside[20:40, 20:40] = True
    assert mask[inside].all()
    assert mask.sum() < 1.5 * inside.sum()
    for other, words in [
        (np.roll(real, 30, 0) + 40, "frame"),
        (real, "hardly differs"),
        (real[:50], "two sizes"),
    ]:
        assert difference_mask(other, real)[0] is None
        assert words in difference_mask(other, real)[1]


def test_shares_are_those_of_a_plain_sum():
    asked = subject()
    masks = region_masks(FACE_SEEN).numpy()
    for amounts, shares, ranks in zip(asked.amounts[:-1].numpy(), asked.shares, asked.ranks, strict=False):
        expected = np.array([amounts[mask].sum() / amounts.sum() for mask in masks])
        np.testing.assert_allclose(shares, expected, rtol=1e-4)
        np.testing.assert_allclose(ranks, expected / masks.mean(axis=(1, 2)), rtol=1e-4)
