"""VGG's configuration C against its published size and against torchvision's VGG-16 with padded kernels."""

import pytest
import torch
import torch.nn.functional as F
from networks import lively
from torch import nn
from torchvision.models import vgg16

from xface.networks.vgg16_c import Vgg16C

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


def test_its_convolutions_are_those_of_the_table():
    with torch.device("meta"):
        found = [m for m in Vgg16C().features if isinstance(m, nn.Conv2d)]
    assert tuple((m.in_channels, m.out_channels, m.kernel_size[0]) for m in found) == CONVOLUTIONS


@pytest.mark.parametrize("side", [32, 65])
def test_its_logits_are_those_of_vgg16_with_kernels_padded_to_3x3(side):
    network, batch = built(num_classes=3), images(side, count=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), vgg16_with_padded_kernels(network)(batch))


def test_the_first_weights_keep_the_signal():
    """Noise of variance 1 leaves the thirteen convolutions about as strong as it came (He et al. 2015)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = Vgg16C(widths=(2, 2)).features
        with torch.inference_mode():
            power = features[:30](torch.randn(4, 3, 64, 64)).square().mean()
    assert 0.1 < power < 10
