"""timm's networks by name: stages, heads and preprocessing, one family after another."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from xface.attribution import attribute
from xface.errors import UnknownNameError, UsageError
from xface.models import architecture, load, read_checkpoint
from xface.models.recognition import restore

FAMILIES = (
    "resnet26", "convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "efficientnet_lite0",
    "deit_tiny_distilled_patch16_224", "mobilenetv3_small_100", "regnetx_002", "hrnet_w18_small",
    "maxvit_rmlp_pico_rw_256", "mixer_s32_224", "repvit_m0_9", "inception_v4", "xception41", "mambaout_femto",
)  # fmt: skip


def seeded(name: str) -> nn.Module:
    """A network with lively weights: timm starts some heads, and layers' scales, at zero."""
    arch = architecture(name)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = arch.build(2).eval()
        nn.init.normal_(network.get_parameter(f"{arch.head}.weight"), std=0.05)
    return network


@pytest.mark.parametrize("name", FAMILIES)
def test_the_recommended_layer_and_stages_can_be_explained(name: str) -> None:
    arch = architecture(f"timm/{name}")
    network = seeded(arch.name)
    images = torch.rand(1, 3, *(arch.preprocessing.size or ()), generator=torch.Generator().manual_seed(4))
    layers = list(dict.fromkeys([*arch.stages, arch.layer]))
    maps = attribute(network, images, methods=["vanilla", "layercam"], layers=layers)
    assert maps.status["vanilla", None] == ["ok"]
    assert maps.status["layercam", arch.layer] == ["ok"]
    sides = [maps["layercam", stage].shape[1] for stage in arch.stages]
    assert sides == sorted(set(sides), reverse=True)
    assert 1 < maps["layercam", arch.layer].shape[1] <= 32


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_network_is_restored_by_name(name: str, tmp_path) -> None:
    """Also where a network has tensors that no state dict holds, as Swin's indices."""
    source = seeded(f"timm/{name}")
    torch.save(source.state_dict(), tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"), f"timm/{name}")
    x = torch.rand(1, 3, *(found.arch.preprocessing.size or ()))
    with torch.inference_mode():
        assert torch.equal(found.model(x), source(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_preprocessing_is_timms(name: str) -> None:
    from timm.data import create_transform, resolve_data_config

    from xface.images import Picture

    ours = architecture(f"timm/{name}").preprocessing
    theirs = create_transform(**resolve_data_config({}, model=timm.create_model(name)))
    pixels = np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)
    prepared = ours.prepare(Picture("noise", pixels)).tensor
    torch.testing.assert_close(prepared, theirs(Image.fromarray(pixels)), rtol=1e-5, atol=1e-5)


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
        architecture(
            "timm/test_vit_no_head" if timm.is_model("test_vit_no_head") else "timm/samvit_base_patch16"
        )


def test_the_detector_is_named_after_timm() -> None:
    detector = load("none", arch="timm/test_resnet")
    assert detector.card.arch == detector.arch.name == "timm/test_resnet"
