"""timm's networks by name: stages, heads and preprocessing, one family after another."""

import re
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from speed import first_quick
from torch import nn

from xface.attribution import attribute
from xface.detectors import load, read_checkpoint
from xface.detectors.recognition import restore
from xface.errors import CheckpointError, UnknownNameError, UsageError
from xface.networks import architecture
from xface.networks.blueprints import Undrawn
from xface.networks.timm_index import timm_names

FAMILIES = (
    "convnext_atto", "vit_tiny_patch16_224", "efficientnet_lite0", "mixer_s32_224", "resnet26",
    "swin_tiny_patch4_window7_224", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_100", "regnetx_002",
    "hrnet_w18_small", "maxvit_rmlp_pico_rw_256", "repvit_m0_9", "inception_v4", "xception41",
    "mambaout_femto",
)  # fmt: skip


def seeded(name: str) -> nn.Module:
    """A network with lively weights: timm starts some heads, and layers' scales, at zero."""
    arch = architecture(name)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = arch.build(2).eval()
        nn.init.normal_(network.get_parameter(f"{arch.head}.weight"), std=0.05)
    return network


@pytest.mark.parametrize("name", first_quick(FAMILIES, 3))
def test_the_recommended_layer_and_stages_can_be_explained(name: str) -> None:
    arch = architecture(f"timm/{name}")
    network = seeded(arch.name)
    images = torch.rand(1, 3, *(arch.preprocessing.size or ()), generator=torch.Generator().manual_seed(1))
    layers = list(dict.fromkeys([*arch.stages, arch.layer]))
    maps = attribute(network, images, methods=["vanilla", "layercam"], layers=layers)
    assert maps.status["vanilla", None] == ["ok"]
    assert maps.status["layercam", arch.layer] == ["ok"]
    sides = [maps["layercam", stage].shape[1] for stage in arch.stages]
    assert sides == sorted(set(sides), reverse=True)
    assert 1 < maps["layercam", arch.layer].shape[1] <= 32


@pytest.mark.parametrize("name", first_quick(FAMILIES, 3))
def test_a_saved_network_is_recognised_and_restored(name: str, tmp_path) -> None:
    """Also where a network has tensors that no state dict holds, as Swin's indices."""
    source = seeded(f"timm/{name}")
    torch.save(source.state_dict(), tmp_path / "a.pth")
    shapes = {key: tuple(tensor.shape) for key, tensor in source.state_dict().items()}
    is_alone = timm_names(shapes) == [f"timm/{name}"]
    found = restore(read_checkpoint(tmp_path / "a.pth"), None if is_alone else f"timm/{name}")
    assert found.arch.name == f"timm/{name}"
    x = torch.rand(1, 3, *(found.arch.preprocessing.size or ()))
    with torch.inference_mode():
        assert torch.equal(found.model(x), source(x))


@pytest.mark.parametrize("name", first_quick(FAMILIES, 3))
def test_preprocessing_is_timms(name: str) -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    from xface.images.pictures import Picture

    ours = architecture(f"timm/{name}").preprocessing
    theirs = create_transform(**resolve_data_config({}, model=timm.create_model(name)))
    pixels = np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)
    prepared = ours.prepare(Picture("noise", pixels)).tensor
    torch.testing.assert_close(prepared, theirs(Image.fromarray(pixels)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pattern", first_quick(["regnety_002", "resnet1*", "vit_tiny*", "*_atto*"]))
def test_the_index_of_names_holds_for_any_number_of_classes(pattern: str) -> None:
    import timm

    for name in timm.list_models(pattern):
        with torch.device("meta"), Undrawn():
            state = timm.create_model(name, num_classes=7).state_dict()
        assert f"timm/{name}" in timm_names({key: tuple(tensor.shape) for key, tensor in state.items()})


def test_networks_that_differ_in_no_weight_are_listed(tmp_path) -> None:
    torch.save(seeded("timm/efficientnet_b0").state_dict(), tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"several architectures \(.*timm/efficientnet_b0, .*say which"
    ) as e:
        restore(read_checkpoint(tmp_path / "a.pth"))
    assert "timm/tf_efficientnet_b0" in str(e.value)
    found = restore(read_checkpoint(tmp_path / "a.pth"), "timm/tf_efficientnet_b0")
    assert found.arch.name == "timm/tf_efficientnet_b0"


def test_tags_of_published_weights_are_taken_off() -> None:
    assert architecture("timm/resnet26.bt_in1k").name == "timm/resnet26"


def test_an_unknown_network_names_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown timm network 'resnet27'; did you mean 'resnet26'"):
        architecture("timm/resnet27")


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "hf_hub:x/y", "local-dir:/tmp", "https://x/y"])
def test_nothing_is_fetched(name: str) -> None:
    with pytest.raises(UnknownNameError):
        architecture(f"timm/{name}")


def test_a_network_without_a_classifier_is_refused() -> None:
    with pytest.raises(UsageError, match="no linear classifier"):
        architecture("timm/mobilenetv5_300m_enc")


def test_the_detector_is_named_after_timm() -> None:
    detector = load("none", arch="timm/test_resnet")
    assert detector.card.arch == detector.arch.name == "timm/test_resnet"


@pytest.mark.parametrize("name", first_quick(["pit_ti_224", "hiera_tiny_224", "mvitv2_tiny"]))
def test_a_network_of_tokens_without_a_grid_recommends_no_layer(name: str) -> None:
    """Its only maps lie before its first layer."""
    arch = architecture(f"timm/{name}")
    assert (arch.layer, arch.stages) == ("", ())


def test_integers_that_a_state_dict_holds_are_restored(tmp_path) -> None:
    """EfficientFormer saves the indices of its attention's biases."""
    source = seeded("timm/efficientformer_l1")
    torch.save(source.state_dict(), tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"))
    restored = found.model.state_dict()
    assert found.arch.name == "timm/efficientformer_l1"
    assert any(not tensor.is_floating_point() and tensor.numel() > 1 for tensor in restored.values())
    for key, tensor in source.state_dict().items():
        assert restored[key].dtype == tensor.dtype
        assert torch.equal(restored[key], tensor)


def test_one_weight_under_several_names_has_one_value(tmp_path) -> None:
    state = seeded("timm/coat_lite_tiny").state_dict()
    torch.save(state, tmp_path / "a.pth")
    assert restore(read_checkpoint(tmp_path / "a.pth")).arch.name == "timm/coat_lite_tiny"
    seen: dict[int, str] = {}
    tied = next(key for key, tensor in state.items() if seen.setdefault(tensor.data_ptr(), key) != key)
    torch.save({**state, tied: state[tied] * 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"{re.escape(tied)} are one weight in the network, but differ"):
        restore(read_checkpoint(tmp_path / "a.pth"))


@pytest.mark.parametrize("name", first_quick(["resnetblur50", "resnetaa50"]))
def test_a_registered_network_that_others_look_like_says_so(name: str, tmp_path) -> None:
    torch.save(seeded(f"timm/{name}").state_dict(), tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"))
    assert found.arch.name == "resnet50"
    assert found.alike == ("timm/resnetaa50", "timm/resnetblur50")
    assert any(f"timm/{name}" in note for note in load(tmp_path / "a.pth").notes)
    assert restore(read_checkpoint(tmp_path / "a.pth"), f"timm/{name}").alike == ()


@pytest.mark.parametrize(
    "beside",
    [
        {"args": Namespace(model="resnetaa50", lr=0.1), "arch": "resnet"},  # as timm's training saves it
        {"hyper_parameters": {"net": [{"model_name": "timm/resnetaa50"}]}},
        {"arch": "resnetaa50"},
    ],
)
def test_the_files_own_name_settles_it(beside: dict, tmp_path) -> None:
    torch.save({"state_dict": seeded("timm/resnetaa50").state_dict(), **beside}, tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"))
    assert (found.arch.name, found.alike) == ("timm/resnetaa50", ())
