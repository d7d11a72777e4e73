"""MesoNet's networks: published sizes, fixed names, and the inception layer written out pixel by pixel."""

import numpy as np
import pytest
import torch
from networks import lively
from numpy.typing import NDArray

from xface.networks.meso import Inception, Meso4, MesoInception4

Array = NDArray[np.float64]


@pytest.mark.parametrize(("network", "published"), [(Meso4, 27_977), (MesoInception4, 28_615)])
def test_parameters_of_the_paper(network: type, published: int) -> None:
    """Afchar et al. 2018; a second class adds the 16 weights and the bias of one more unit."""
    for classes, more in ((1, 0), (2, 17)):
        assert sum(p.numel() for p in network(classes).parameters()) == published + more


def test_names_that_checkpoints_rely_on() -> None:
    blocks = [
        f"block{block}.{part}"
        for block in (1, 2, 3, 4)
        for part in ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
                     "norm.running_var", "norm.num_batches_tracked")
    ]  # fmt: skip
    dense = [f"dense.{layer}.{part}" for layer in ("hidden", "head") for part in ("weight", "bias")]
    assert list(Meso4().state_dict()) == blocks + dense
    shared = [name for name in blocks + dense if not name.startswith(("block1.conv", "block2.conv"))]
    assert [name for name in MesoInception4().state_dict() if ".inception." not in name] == shared


def convolved(maps: Array, layer: torch.nn.Conv2d, dilation: int) -> Array:
    """Every output pixel as the sum over its neighbours at the given distance; outside lies zero."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    _, height, width = maps.shape
    reach = weight.shape[-1] // 2
    out = np.empty((len(bias), height, width))
    for o, y, x in np.ndindex(out.shape):
        total = bias[o]
        for i in range(-reach, reach + 1):
            for j in range(-reach, reach + 1):
                row, column = y + i * dilation, x + j * dilation
                if 0 <= row < height and 0 <= column < width:
                    total += weight[o, :, i + reach, j + reach] @ maps[:, row, column]
        out[o, y, x] = max(total, 0.0)
    return out


def test_the_inception_layer_is_four_branches_side_by_side() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layer, x = Inception(3, (1, 4, 4, 2)).double(), torch.randn(2, 3, 9, 7, dtype=torch.float64)
    for image, found in zip(x, layer(x).detach().numpy(), strict=True):
        maps = [convolved(image.numpy(), layer.pointwise.conv, 1)]
        for dilation, branch in enumerate((layer.plain, layer.dilated2, layer.dilated3), start=1):
            maps.append(convolved(convolved(image.numpy(), branch.reduce, 1), branch.conv, dilation))
        assert [len(branch) for branch in maps] == [1, 4, 4, 2]
        np.testing.assert_allclose(found, np.concatenate(maps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", [Meso4, MesoInception4])
def test_no_image_depends_on_its_neighbours_in_the_batch(network: type) -> None:
    model = lively(network(2))
    images = torch.rand(2, 3, 256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone, swapped = model(images[:1]), model(images.flip(0))
    torch.testing.assert_close(alone[0], swapped[1], rtol=0, atol=1e-12)


def test_the_inception_network_can_be_traced_and_built_without_storage() -> None:
    model = lively(MesoInception4(2))
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(model)(image), model(image))
    with torch.device("meta"):
        assert MesoInception4(2).eval()(torch.empty(1, 3, 256, 256)).shape == (1, 2)
