"""Stats-2L on whole pictures against the literal computation, patch by patch; and its explanations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xface.errors import UsageError
from xface.networks.rahmouni import Rahmouni, Statistics


def built(seed: int = 0, classes: int = 2) -> Rahmouni:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Rahmouni(classes).double().eval()


def pictures(height: int, width: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)


def literal(model: Rahmouni, picture: torch.Tensor) -> np.ndarray:
    """Cut the picture into patches, judge each on its own, average the logits."""
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    logits = []
    for top in range(0, picture.shape[1] - 99, 100):
        for left in range(0, picture.shape[2] - 99, 100):
            maps = picture[None, :, top : top + 100, left : left + 100]
            for layer in ("conv1", "conv2"):
                maps = F.conv2d(maps, weights[f"{layer}.weight"], weights[f"{layer}.bias"]).clamp(min=0)
            cells = maps[0].numpy().reshape(64, 88 * 88)
            statistics = [*cells.mean(1), *cells.var(1), *cells.max(1), *cells.min(1)]
            hidden = np.maximum(
                weights["hidden.weight"].numpy() @ statistics + weights["hidden.bias"].numpy(), 0
            )
            logits.append(weights["head.weight"].numpy() @ hidden + weights["head.bias"].numpy())
    return np.mean(logits, axis=0)


def test_whole_pictures_score_as_the_mean_of_their_patches():
    """Two by two; what is left at the bottom and at the right is not seen."""
    model, images = built(classes=3), pictures(233, 211, count=2)
    truth = np.array([literal(model, picture) for picture in images])
    np.testing.assert_allclose(model(images).detach(), truth, rtol=1e-11)


def test_equals_share_the_gradient_of_a_maximum_or_minimum():
    maps = torch.full((1, 1, 88, 88), 0.5, dtype=torch.float64)
    maps[0, 0, 3, 4] = maps[0, 0, 80, 7] = 2.0
    maps[0, 0, :2] = 0.0
    for kind, where, share in ((2, maps == 2, 1 / 2), (3, maps == 0, 1 / 176)):
        leaf = maps.clone().requires_grad_()
        Statistics()(leaf)[0, kind, 0, 0].backward()
        torch.testing.assert_close(leaf.grad, where * torch.tensor(share, dtype=torch.float64))


@pytest.mark.parametrize("size", [(99, 300), (300, 99), (64, 64)])
def test_pictures_below_one_patch_are_refused(size):
    with pytest.raises(UsageError, match=f"100 x 100.*{size[0]} x {size[1]}"):
        built()(torch.zeros(1, 3, *size, dtype=torch.float64))
