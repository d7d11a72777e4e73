"""A network of each kind, explained by every core method at its recommended layer and stages."""

import pytest
import torch
from networks import FAMILIES, KINDS, LARGE, UNRECTIFIED, built, images_for, marked
from reference import relative_error

from xface.attribution import CORE_METHODS, METHODS, attribute
from xface.errors import AttributionError
from xface.networks import ARCHITECTURES

RULED = [name for name in CORE_METHODS if METHODS[name].rules - {"plain"}]
SEEDS = range(3, 15)


def defined_for(name: str) -> list[str]:
    return [method for method in CORE_METHODS if name not in UNRECTIFIED or method not in RULED]


@pytest.fixture(scope="module", params=marked(KINDS))
def explained(request):
    """A network's name, itself, its weights before, its maps, and each map's statuses over the seeds.

    A Grad-CAM may be truly zero, where all evidence speaks against a class; so seeds are tried until each map
    was ok once. Zero maps are held against the slow reference elsewhere.
    """
    entry, statuses = ARCHITECTURES[request.param], {}
    for seed in SEEDS:
        model = built(request.param, seed=seed, dtype=torch.float32)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        images = images_for(request.param, 1, torch.float32)
        maps = attribute(model, images, methods=defined_for(request.param), layers=entry.stages)
        for key, [status] in maps.status.items():
            statuses.setdefault(key, set()).add(status)
        if all("ok" in met for met in statuses.values()):
            break
    return request.param, model, before, maps, statuses


def test_every_core_method_is_ok_at_every_stage(explained):
    name, _, _, maps, statuses = explained
    assert {key: met for key, met in statuses.items() if "ok" not in met or not met <= {"ok", "zero"}} == {}
    assert all(statuses[method, None] == {"ok"} for method, layer in maps if layer is None)
    layered = [method for method in defined_for(name) if METHODS[method].layered]
    assert {key for key in maps if key[1]} == {(m, s) for m in layered for s in ARCHITECTURES[name].stages}


def test_guided_and_deconvnet_differ_from_vanilla(explained):
    """Published images show guided = deconvnet = vanilla where there is no nn.ReLU to hook."""
    name, _, _, maps, _ = explained
    if name in UNRECTIFIED:
        pytest.skip("no rectifier: see below")
    for one, other in (("guided", "vanilla"), ("deconvnet", "vanilla"), ("guided", "deconvnet")):
        assert relative_error(maps[one, None], maps[other, None]) > 0.01


def test_the_network_is_left_as_it_was(explained):
    _, model, before, _, _ = explained
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", UNRECTIFIED)
@pytest.mark.parametrize("method", RULED)
def test_a_network_without_rectifiers_says_so(name, method):
    with pytest.raises(AttributionError, match="no rectifier"):
        attribute(built(name), images_for(name), methods=[method], layers=[ARCHITECTURES[name].layer])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in LARGE])
def test_every_other_method_explains_one_network_of_each_family(name):
    """A CAM may be truly zero, and nothing else may. Score-CAM runs the network for each of a map's channels:

    of the first stage there are dozens, of the last thousands.
    """
    entry = ARCHITECTURES[name]
    others = [method for method in METHODS if method not in CORE_METHODS]
    model, images = built(name, dtype=torch.float32), images_for(name, 1, torch.float32)
    for layer, methods in ((entry.layer, set(others) - {"scorecam"}), (entry.stages[0], {"scorecam"})):
        maps = attribute(model, images, methods=sorted(methods), layers=[layer])
        assert {method for method, _ in maps} == methods
        for (method, at), [status] in maps.status.items():
            assert status == "ok" or (at and status == "zero"), method
