"""Training losses of the frequency attention network, after RECCE (Cao et al. 2022, CVPR)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xface.errors import UsageError
from xface.networks.freq_attention import Outputs

RECONSTRUCTION_WEIGHT = 0.1
METRIC_WEIGHT = 0.1


@dataclass(frozen=True)
class Losses:
    """The sum to train with, its parts before weighting (scalars), and how many terms they are means of.

    A mean of nothing counts as 0 in the sum, which isn't a perfect score: in statistics, leave out a part
    whose count is 0. `real_faces` belongs to `reconstruction`, `real_pairs` and `mixed_pairs` to the two
    terms of `metric`.
    """

    total: Tensor
    classification: Tensor
    reconstruction: Tensor
    metric: Tensor
    real_faces: int
    real_pairs: int
    mixed_pairs: int


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy, the mean of -log p(label); `labels` (N,) are class indices.

    One logit z is class 1's, with p(1) = sigmoid(z). Two or more go through a softmax; with two, p(1) =
    sigmoid(z_1 - z_0), so this is the binary cross entropy of their difference.

    Example:
        >>> classification_loss(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]))
        tensor(0.6931)
        >>> classification_loss(torch.tensor([[5.0, 5.0]]), torch.tensor([1]))
        tensor(0.6931)
    """
    one_logit = logits.shape[1] == 1
    return F.cross_entropy(F.pad(logits, (1, 0)) if one_logit else logits, labels)


def reconstruction_loss(reconstruction: Tensor, images: Tensor, is_real: Tensor) -> Tensor:
    """Mean |reconstruction - image| over the pixels of the real faces; 0 where there are none.

    RECCE, section 3.2: the network learns to paint real faces only, so that forged ones come out wrong.
    Both are (N, 3, H, W), `is_real` (N,) booleans.

    Example:
        >>> painted, faces = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
        >>> reconstruction_loss(painted, faces, torch.tensor([True, False]))
        tensor(0.5000)
    """
    return _mean((reconstruction - images)[is_real].abs())


def metric_loss(features: Tensor, is_real: Tensor) -> Tensor:
    """Draw real faces together and forged ones away from them: features (N, C, h, w) -> a scalar in [0, 2].

    With f the features averaged over positions and d(i, j) = (1 - cos(f_i, f_j)) / 2, which is in [0, 1]:
    mean of d over the pairs i != j of real faces + mean of 1 - d over the pairs of a real and a forged one.
    Where both kinds of pairs exist, this is what RECCE's published code computes. Forged faces aren't drawn
    together: each forgery may differ in its own way. A mean over no pairs is 0 (RECCE's code counts absent
    pairs of real faces as 1, a constant).

    Example:
        >>> directions = torch.tensor([[1.0, 0], [1, 0], [-1, 0]])[..., None, None]
        >>> metric_loss(directions, torch.tensor([True, True, False]))
        tensor(0.)
        >>> metric_loss(directions, torch.tensor([True, False, True]))
        tensor(1.5000)
    """
    precise = torch.promote_types(features.dtype, torch.float32)
    pooled = features.to(precise).mean(dim=(2, 3))
    distance = (1 - F.cosine_similarity(pooled[:, None], pooled[None], dim=-1)) / 2
    real_pairs, mixed_pairs = _pairs(is_real)
    return _mean(distance[real_pairs]) + _mean(1 - distance[mixed_pairs])


def freq_losses(outputs: Outputs, images: Tensor, labels: Tensor, real: int) -> Losses:
    """Binary cross entropy + 0.1 reconstruction + 0.1 metric, the last summed over the three features.

    Args:
        outputs: what `FreqAttention.outputs` returned in training mode.
        images: (N, 3, H, W), the images it was given, without its noise.
        labels: (N,) class indices.
        real: the index of the class of real faces; all others count as forged.

    Raises:
        UsageError: no class has the index `real`.

    Example:
        >>> features = tuple(torch.ones(2, channels, 1, 1) for channels in (728, 256, 128))
        >>> face = torch.zeros(2, 3, 8, 8)
        >>> outputs = Outputs(torch.zeros(2, 2), face, features)
        >>> losses = freq_losses(outputs, face, torch.tensor([0, 1]), real=1)
        >>> losses.classification, losses.metric, losses.total, losses.real_pairs
        (tensor(0.6931), tensor(3.), tensor(0.9931), 0)
    """
    classes = max(2, outputs.logits.shape[1])
    if not 0 <= real < classes:
        raise UsageError(f"no class has the index {real}; give one from 0 to {classes - 1} as the real one")
    is_real = labels == real
    real_pairs, mixed_pairs = _pairs(is_real)
    classification = classification_loss(outputs.logits, labels)
    reconstruction = reconstruction_loss(outputs.reconstruction, images, is_real)
    metric = torch.stack([metric_loss(features, is_real) for features in outputs.features]).sum()
    return Losses(
        total=classification + RECONSTRUCTION_WEIGHT * reconstruction + METRIC_WEIGHT * metric,
        classification=classification,
        reconstruction=reconstruction,
        metric=metric,
        real_faces=int(is_real.sum()),
        real_pairs=int(real_pairs.sum()),
        mixed_pairs=int(mixed_pairs.sum()),
    )


def added_losses(model: nn.Module, images: Tensor, labels: Tensor, real: int) -> tuple[Tensor, Tensor]:
    """The logits (N, classes) of a `FreqAttention` in training mode, and its two other terms, weighted."""
    outputs: Outputs = model.outputs(images)  # type: ignore[operator]
    parts = freq_losses(outputs, images, labels, real)
    return outputs.logits, RECONSTRUCTION_WEIGHT * parts.reconstruction + METRIC_WEIGHT * parts.metric


def _pairs(is_real: Tensor) -> tuple[Tensor, Tensor]:
    """Which (i, j), each pair once, are two real faces; which are a real (i) and a forged one (j)."""
    both = (is_real[:, None] & is_real[None]).triu(diagonal=1)
    return both, is_real[:, None] & ~is_real[None]


def _mean(values: Tensor) -> Tensor:
    """The mean, or 0 with a gradient of 0 where there are no values."""
    return values.mean() if values.numel() else values.sum()
