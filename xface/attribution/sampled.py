"""Methods that look at the input many times; (N, C, H, W) signed, in float32 at least.

One image at a time, so that memory stays that of a small batch and a batch gives what its images give alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from xface.attribution.methods import method, wide
from xface.attribution.trace import Trace

SEED, STEPS, COPIES, BATCH = 0, 50, 25, 8
Score = Callable[[Tensor], Tensor]


def _each(trace: Trace, attribute: Callable[[Score, Tensor], Tensor]) -> Tensor:
    """Return attribute(score function, image (C, H, W)) for each image of the trace.

    The image comes in float32 at least, and goes into the network in the network's own dtype.
    """

    def one(index: int) -> Tensor:
        def score(batch: Tensor) -> Tensor:
            output = trace.model(batch.to(trace.images.dtype))
            return wide(trace.target.repeated(index, len(batch)).scores(output))

        image = wide(trace.images[index])
        return attribute(score, image) if image.isfinite().all() else torch.full_like(image, float("nan"))

    return torch.stack([one(index) for index in range(len(trace.images))])


def _weighted_gradient(score: Score, inputs: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the score's gradients at inputs (M, C, H, W), each times its weight, (C, H, W)."""
    total = torch.zeros_like(inputs[0])
    for part, weight in zip(torch.split(inputs, BATCH), torch.split(weights, BATCH), strict=True):
        leaf = part.detach().requires_grad_()
        [gradient] = torch.autograd.grad((score(leaf) * weight).sum(), leaf)
        total += gradient.sum(dim=0)
    return total


@method("input_x_gradient", "Input x gradient", "Shrikumar et al. 2016, arXiv:1605.01713", rules=("plain",))
def input_x_gradient(trace: Trace, layer: str | None) -> Tensor:
    """The network's input times d score / d input."""
    return wide(trace.images) * wide(trace.input_gradients["plain"])


@method("integrated_gradients", "Integrated gradients", "Sundararajan et al. 2017, arXiv:1703.01365")
def integrated_gradients(trace: Trace, layer: str | None) -> Tensor:
    """x times the mean gradient on the straight path from 0 to x, by 50 Gauss-Legendre steps."""
    places, weights = (torch.from_numpy(numbers) for numbers in np.polynomial.legendre.leggauss(STEPS))

    def attribute(score: Score, image: Tensor) -> Tensor:
        path = ((1 + places) / 2).to(image)[:, None, None, None] * image
        return image * _weighted_gradient(score, path, (weights / 2).to(image))

    return _each(trace, attribute)


@method("smoothgrad", "SmoothGrad", "Smilkov et al. 2017, arXiv:1706.03825")
def smoothgrad(trace: Trace, layer: str | None) -> Tensor:
    """The mean gradient of 25 copies with Gaussian noise of 15 % of the input's range, seed 0.

    The noise is drawn on the CPU in float32, so that it is the same on every device and in every precision.
    """

    def attribute(score: Score, image: Tensor) -> Tensor:
        noise = torch.randn(COPIES, *image.shape, generator=torch.Generator().manual_seed(SEED)).to(image)
        copies = image + 0.15 * (image.max() - image.min()) * noise
        return _weighted_gradient(score, copies, image.new_full((COPIES,), 1 / COPIES))

    return _each(trace, attribute)


@method("occlusion", "Occlusion", "Zeiler and Fergus 2013, arXiv:1311.2901")
def occlusion(trace: Trace, layer: str | None) -> Tensor:
    """The score's fall when a window, a seventh of each side, is set to 0; half-window steps, averaged."""

    def attribute(score: Score, image: Tensor) -> Tensor:
        fall, covered = torch.zeros_like(image[0]), torch.zeros_like(image[0])
        with torch.no_grad():
            whole = score(image.unsqueeze(0))
            for windows in torch.split(_windows(image), BATCH):
                falls = whole - score(image * ~windows.unsqueeze(1))
                fall += (falls[:, None, None] * windows).sum(dim=0)
                covered += windows.sum(dim=0)
        return (fall / covered).expand_as(image)

    return _each(trace, attribute)


def _windows(image: Tensor) -> Tensor:
    """Return where each window lies, (number of windows, H, W); they cover the image."""
    rows, columns = (_intervals(side).to(image.device) for side in image.shape[1:])
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def _intervals(side: int) -> Tensor:
    """Intervals of a seventh of a side in steps of half of that, (number, side); the last may be cut."""
    width, step, places = max(1, side // 7), max(1, side // 14), torch.arange(side)
    starts = torch.arange(0, max(side - width, 0) + step, step)[:, None]
    return (places >= starts) & (places < starts + width)
