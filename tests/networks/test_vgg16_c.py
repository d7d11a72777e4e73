"""VGG's configuration C against its published size and against torchvision's VGG-16 with padded kernels."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from networks import lively
from reference import gradcams, input_gradients, relative_error
from torch import fx, nn
from torchvision.models import vgg16

from xface.attribution import attribute
from xface.feature_maps.layers import feature_maps
from xface.networks.vgg16_c import Vgg16C

STAGES = ("features.3", "features.8", "features.15", "features.22", "features.29")
LAST = "features.29"

# Simonyan and Zisserman 2014, table 1, column C: channels in, channels out, kernel of each convolution
CONVOLUTIONS = (
    (3, 64, 3), (64, 64, 3),
    (64, 128, 3), (128, 128, 3),
    (128, 256, 3), (256, 256, 3), (256, 256, 1),
    (256, 512, 3), (512, 512, 3), (512, 512, 1),
    (512, 512, 3), (512, 512, 3), (512, 512, 1),
)  # fmt: skip


def built(num_classes=2, widths=(12, 8)):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return lively(Vgg16C(num_classes, widths))


def images(side=40, count=2):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64) - 0.3


def vgg16_with_padded_kernels(network):
    """Torchvision's VGG-16 (configuration D), each 1x1 kernel as the centre of a 3x3 one."""
    weights = {
        name: F.pad(w, (1, 1, 1, 1)) if w.ndim == 4 and w.shape[-1] == 1 else w
        for name, w in network.state_dict().items()
    }
    with torch.device("meta"):
        padded = vgg16(weights=None)
        for index in (0, 3, 6):
            padded.classifier[index] = nn.Linear(*weights[f"classifier.{index}.weight"].shape[::-1])
    padded.load_state_dict(weights, assign=True)
    return padded.eval()


@pytest.mark.parametrize(
    ("classes", "widths", "published"),
    [(1000, (4096, 4096), 133_638_952), (2, (1024, 2048), 37_790_530), (3, (5, 4), 10_121_580)],
)
def test_parameters(classes, widths, published):
    """134 million in table 2; from table 1, 9,996,096 in the convolutions, then the dense layers."""
    dense = (512 * 7 * 7, *widths, classes)
    by_hand = sum(k * k * i * o + o for i, o, k in CONVOLUTIONS)
    by_hand += sum(i * o + o for i, o in pairwise(dense))
    with torch.device("meta"):
        network = Vgg16C(classes, widths)
    assert sum(p.numel() for p in network.parameters()) == by_hand == published


def test_its_convolutions_are_those_of_the_table():
    with torch.device("meta"):
        found = [m for m in Vgg16C().features if isinstance(m, nn.Conv2d)]
    assert tuple((m.in_channels, m.out_channels, m.kernel_size[0]) for m in found) == CONVOLUTIONS


@pytest.mark.parametrize("side", [32, 65, 224])
def test_its_logits_are_those_of_vgg16_with_kernels_padded_to_3x3(side):
    network, batch = built(num_classes=3), images(side, count=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), vgg16_with_padded_kernels(network)(batch))


def test_the_average_changes_nothing_at_224_pixels():
    network, batch = built().float(), images(224, count=1).float()
    with torch.inference_mode():
        maps = network.features(batch)
        assert torch.equal(network.classifier(maps.flatten(1)), network(batch))


def test_its_stages_halve_the_side_and_end_before_the_pooling():
    with torch.device("meta"):
        network = Vgg16C()
    shapes = {layer.name: layer.shape for layer in feature_maps(network, (224, 224))}
    assert [shapes[name] for name in STAGES] == [
        (64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28), (512, 14, 14),
    ]  # fmt: skip
    for name in STAGES:
        assert isinstance(network.get_submodule(name), nn.ReLU)
        assert isinstance(network.features[int(name.split(".")[1]) + 1], nn.MaxPool2d)


def test_dropout_acts_in_training_only():
    network, batch = built(widths=(64, 64)), images()
    with torch.inference_mode():
        assert torch.equal(network(batch), network(batch))
        network.train()
        assert not torch.equal(network(batch), network(batch))


def test_the_first_weights_keep_the_signal():
    """Noise of variance 1 leaves the thirteen convolutions about as strong as it came (He et al. 2015)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = Vgg16C(widths=(2, 2)).features
        with torch.inference_mode():
            power = features[:30](torch.randn(4, 3, 64, 64)).square().mean()
    assert 0.1 < power < 10


def test_maps_match_the_slow_reference():
    network, batch = built(), images()
    found = attribute(network, batch, [0, 1], ("vanilla", "guided", "deconvnet", "gradcam"), (LAST,))
    truth = input_gradients(network, batch, [0, 1])
    for method, rule in (("vanilla", "plain"), ("guided", "guided"), ("deconvnet", "deconvnet")):
        assert found.status[method, None] == ["ok", "ok"]
        assert relative_error(found[method, None], truth[rule]) < 1e-6
    assert relative_error(found["gradcam", LAST], gradcams(network, batch, [0, 1], [LAST])[LAST]) < 1e-6
    for method in ("guided", "deconvnet"):
        assert relative_error(found[method, None], found["vanilla", None]) > 0.1


def test_it_can_be_traced():
    graph = fx.symbolic_trace(Vgg16C(widths=(2, 2))).graph
    modules = [node.target for node in graph.nodes if node.op == "call_module"]
    assert modules == [
        *(f"features.{i}" for i in range(31)), "avgpool", "flatten", *(f"classifier.{i}" for i in range(7)),
    ]  # fmt: skip
