"""The recast descriptor against the hand-crafted one in plain NumPy, and what can be explained in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xface.networks.cozzolino import SHARPNESS, Cozzolino


def built(seed: int = 0, classes: int = 2) -> Cozzolino:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Cozzolino(classes).double().eval()


def noise(height: int = 20, width: int = 27, count: int = 2, spread: float = 0.02) -> torch.Tensor:
    """Flat pictures under noise: residuals of a few steps, with every level frequent."""
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)
    return (0.5 + spread * drawn).clamp(0, 1)


def grey_levels(picture: torch.Tensor) -> np.ndarray:
    red, green, blue = 255 * picture.numpy()
    return 0.299 * red + 0.587 * green + 0.114 * blue


def descriptor(grey: np.ndarray) -> np.ndarray:
    """Residual, rounding to steps of 6, truncation to -1, 0, 1, histogram of four in a row, each position."""
    histogram, (height, width) = np.zeros((2, 3, 3, 3, 3)), grey.shape
    for top in range(height - 7):
        for left in range(width - 7):
            for way, line in enumerate((grey[top + 3, left : left + 8], grey[top : top + 8, left + 3])):
                residuals = [line[i] - 3 * line[i + 1] + 3 * line[i + 2] - line[i + 3] for i in range(1, 5)]
                levels = [int(np.clip(np.rint(residual / 6), -1, 1)) + 1 for residual in residuals]
                histogram[(way, *levels)] += 1 / ((height - 7) * (width - 7))
    return histogram.ravel()


def histograms(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the classifier is given."""
    given = []
    handle = model.head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].detach()))
    model(images)
    handle.remove()
    return given[0]


def harden(model: Cozzolino, factor: float) -> Cozzolino:
    with torch.no_grad():
        model.words.weight *= factor
        model.words.bias *= factor
    return model


def test_the_hard_limit_is_the_hand_crafted_descriptor():
    images = noise()
    found = histograms(harden(built(), 1e9), images)
    for mine, picture in zip(found, images, strict=True):
        truth = descriptor(grey_levels(picture))
        assert (truth > 0).sum() > 80
        np.testing.assert_allclose(mine, truth, rtol=0, atol=1e-12)


def test_the_hard_limit_is_approached_from_soft():
    images = noise()
    truth = torch.tensor(np.array([descriptor(grey_levels(picture)) for picture in images]))
    far = [(histograms(harden(built(), f), images) - truth).abs().sum() for f in (0.5, 1, 4, 16, 64)]
    assert all(softer > harder for softer, harder in pairwise(far))
    assert far[1] < 0.35 * truth.sum()  # the initial network is near the descriptor it recasts


def test_codes_are_products_of_four_soft_quantisations():
    """Softly, the co-occurrence of four residuals is the outer product of their own soft assignments."""
    model, images = built(), noise(count=1)
    residuals = model.residuals(model.grey(images))[0]
    codes = model.codes(model.words(model.residuals(model.grey(images))))[0].unflatten(0, (2, 3, 3, 3, 3))
    levels = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    soft = F.softmax(-SHARPNESS / 2 * (residuals[..., None] / 6 - levels) ** 2, dim=-1)
    for top, left in ((0, 0), (3, 5), (12, 19)):
        for way, four in enumerate((soft[0, top + 1, left : left + 4], soft[1, top : top + 4, left + 1])):
            expected = torch.einsum("a,b,c,d->abcd", *four)
            torch.testing.assert_close(codes[way, ..., top, left], expected, rtol=0, atol=1e-14)


def test_any_size_of_8_pixels_or_more_is_taken():
    for size in ((8, 8), (9, 40), (64, 33)):
        assert built(classes=5)(torch.rand(1, 3, *size, dtype=torch.float64)).shape == (1, 5)
