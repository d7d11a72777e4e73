"""Methods that look at the input many times, from captum; (N, C, H, W) signed.

One image at a time, so that memory stays that of a small batch and a batch gives what its images give alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xface.attribution.methods import method
from xface.attribution.trace import Trace

SEED = 0
Score = Callable[[Tensor], Tensor]


def _each(trace: Trace, attribute: Callable[[Score, Tensor], Any]) -> Tensor:
    """Return attribute(score function, image (1, C, H, W)) for each image of the trace."""

    def one(index: int) -> Tensor:
        def score(batch: Tensor) -> Tensor:
            return trace.target.repeated(index, len(batch)).scores(trace.model(batch))

        image = trace.images[index : index + 1].clone()
        if not image.isfinite().all():
            return torch.full_like(image, float("nan"))
        _generator(image.device).manual_seed(SEED)
        return attribute(score, image.requires_grad_()).detach()  # type: ignore[no-any-return]

    return torch.cat([one(index) for index in range(len(trace.images))])


def _generator(device: torch.device) -> torch.Generator:
    """The device's own generator: `torch.manual_seed` would reach those of other devices too."""
    cuda = torch.cuda.default_generators
    return cuda[device.index or 0] if device.type == "cuda" else torch.default_generator


@method("input_x_gradient", "Input x gradient", "Shrikumar et al. 2016, arXiv:1605.01713", rules=("plain",))
def input_x_gradient(trace: Trace, layer: str | None) -> Tensor:
    """The network's input times d score / d input."""
    return trace.images * trace.input_gradients["plain"]


@method("integrated_gradients", "Integrated gradients", "Sundararajan et al. 2017, arXiv:1703.01365")
def integrated_gradients(trace: Trace, layer: str | None) -> Tensor:
    """x times the mean gradient on the straight path from 0 to x, 50 Gauss-Legendre steps (by captum)."""
    from captum.attr import IntegratedGradients

    return _each(
        trace, lambda score, x: IntegratedGradients(score).attribute(x, n_steps=50, internal_batch_size=8)
    )


@method("smoothgrad", "SmoothGrad", "Smilkov et al. 2017, arXiv:1706.03825")
def smoothgrad(trace: Trace, layer: str | None) -> Tensor:
    """The mean gradient of 25 noisy copies, noise of 15 % of the input's range, seed 0 (by captum)."""
    from captum.attr import NoiseTunnel, Saliency

    def attribute(score: Score, x: Tensor) -> Any:
        deviation = 0.15 * float(x.max() - x.min())
        tunnel = NoiseTunnel(Saliency(score))
        return tunnel.attribute(x, nt_samples=25, nt_samples_batch_size=5, stdevs=deviation, abs=False)

    return _each(trace, attribute)


@method("occlusion", "Occlusion", "Zeiler and Fergus 2013, arXiv:1311.2901")
def occlusion(trace: Trace, layer: str | None) -> Tensor:
    """The score's fall when a square, a seventh of the side, is set to 0; half-square steps (by captum)."""
    from captum.attr import Occlusion

    def attribute(score: Score, x: Tensor) -> Any:
        channels, height, width = x.shape[1:]
        window = (channels, max(1, height // 7), max(1, width // 7))
        strides = (channels, max(1, height // 14), max(1, width // 14))
        return Occlusion(score).attribute(x, window, strides, perturbations_per_eval=8)

    return _each(trace, attribute)
