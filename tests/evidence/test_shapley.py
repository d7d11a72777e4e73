"""Shapley values against the definition over all orders, captum's, and planted truths."""

from itertools import permutations

import numpy as np
import pytest
import torch
from probe_networks import Looking, as_detector

from xface.evidence.effects import region_effects
from xface.evidence.hiding import ShownFace
from xface.evidence.shapley import exact_values, sampled_values, shapley_values
from xface.faces.regions import REGIONS

NAMES = list(REGIONS)


def some_game(n, seed=0):
    """Any game at all: a score for each coalition."""
    table = np.random.default_rng(seed).normal(size=2**n)
    return lambda visible: table[visible @ (1 << np.arange(n))]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_exact_values_are_the_mean_over_all_orders(n):
    game, added = some_game(n), []
    for order in permutations(range(n)):
        steps = np.zeros((n + 1, n), bool)
        for place, player in enumerate(order):
            steps[place + 1 :, player] = True
        added.append(np.diff(game(steps))[np.argsort(order)])
    values, errors, total = exact_values(game, n)
    np.testing.assert_allclose(values, np.mean(added, axis=0))
    assert total == pytest.approx(values.sum())
    assert not errors.any()


def test_sampled_values_sum_exactly_and_their_errors_hold():
    held, n = [], 6
    for seed in range(40):
        game = some_game(n, seed)
        values, errors, total = sampled_values(game, n)
        assert values.sum() == pytest.approx(total)
        held.append(np.abs(values - exact_values(game, n)[0]) <= 2.13 * errors)  # t with 15 degrees
    assert 0.9 <= np.mean(held) <= 0.99


def test_sampled_values_are_those_of_captum():
    from captum.attr import ShapleyValueSampling

    game, n = some_game(5), 5
    torch.manual_seed(0)
    sampling = ShapleyValueSampling(lambda rows: torch.from_numpy(game(rows.bool().numpy())))
    theirs = sampling.attribute(torch.ones(1, n), torch.zeros(1, n), n_samples=2000)[0].numpy()
    np.testing.assert_allclose(sampled_values(game, n, orders=2000)[0], theirs, atol=0.12)


def face(seed=0):
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed))
    labels = torch.full((64, 64), NAMES.index("background"), dtype=torch.uint8)
    for place, name in enumerate(("mouth", "nose", "jaw", "forehead")):
        labels[10 + 10 * place : 20 + 10 * place, 16:48] = NAMES.index(name)
    return ShownFace(image, labels, iod=16.0)


@pytest.mark.parametrize("exact", [True, False])
def test_the_one_region_that_decides_has_the_largest_value(exact):
    shown = face()
    detector = as_detector(Looking(shown.labels == NAMES.index("nose")))
    found = shapley_values(detector, shown, 0, exact)
    assert NAMES[np.nanargmax(found.values)] == "nose"
    assert np.isnan(found.values[NAMES.index("background")])
    assert np.isnan(found.values[NAMES.index("left_eye")])
    assert np.nansum(found.values) == pytest.approx(found.total, abs=1e-4)
    effect = region_effects(detector, shown, 0, ("blur",)).values[0, NAMES.index("nose")]
    assert 0.6 * effect < found.values[NAMES.index("nose")] < 1.1 * effect


def test_without_a_region_in_the_picture_there_is_nothing_to_divide():
    shown = face()
    empty = ShownFace(shown.image, torch.full_like(shown.labels, NAMES.index("background")), shown.iod)
    found = shapley_values(as_detector(Looking(torch.ones(64, 64))), empty, 0)
    assert np.isnan(found.values).all()
    assert found.total == 0
