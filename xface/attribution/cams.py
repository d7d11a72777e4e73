"""Further class activation maps, at a layer's own resolution: (N, h, w) after the ReLU.

With A the layer's activation and g the score's gradient there, both (N, K, h, w); in float32 at least.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xface.attribution.methods import method, wide
from xface.attribution.trace import Trace

MASKS_AT_ONCE = 16


@method(
    "gradcam++",
    "Grad-CAM++",
    "Chattopadhay et al. 2018, arXiv:1710.11063",
    layered=True,
    layer_gradients=True,
)
def gradcam_plus_plus(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k w_k A_k), w_k = sum_ij a max(g, 0), a = g^2 / (2 g^2 + g^3 sum_ij A) (eq. 19)."""
    activation, g = wide(trace.activations[layer]), wide(trace.layer_gradients[layer])
    # Divided through by g^2, which underflows in float32 long before g does; a is 0 where g is 0.
    denominator = 2 + g * activation.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where((g != 0) & (denominator != 0), 1 / denominator, torch.zeros_like(g))
    weights = (alpha * g.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1).relu()


@method("layercam", "LayerCAM", "Jiang et al. 2021, IEEE TIP 30", layered=True, layer_gradients=True)
def layercam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k max(g_k, 0) A_k), position by position."""
    return (wide(trace.layer_gradients[layer]).relu() * wide(trace.activations[layer])).sum(dim=1).relu()


@method(
    "hirescam", "HiResCAM", "Draelos and Carin 2020, arXiv:2011.08891", layered=True, layer_gradients=True
)
def hirescam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k g_k A_k), position by position."""
    return (wide(trace.layer_gradients[layer]) * wide(trace.activations[layer])).sum(dim=1).relu()


@method("eigencam", "EigenCAM", "Muhammad and Yeasin 2020, arXiv:2008.00299", layered=True)
def eigencam(trace: Trace, layer: str) -> Tensor:
    """max(0, A on its first right singular vector over channels), not centred; the same for every class.

    With O (h w, K) the activation, O = U S V^T and the map is O V_1, as the paper has it. grad-cam takes the
    mean over positions off O first: a principal component, whose map may be another one altogether.

    An axis has no sign, which the paper leaves open: as in Chung and Ying 2025 (Seg-Eigen-CAM, eq. 13) the
    side with the larger extreme counts as positive.
    """
    return torch.stack([_on_first_axis(activation) for activation in wide(trace.activations[layer])])


def _on_first_axis(activation: Tensor) -> Tensor:
    """Return O V_1 of a (K, h, w) activation, (h, w), after the ReLU; NaN where it isn't finite."""
    points = activation.flatten(1).T.double()
    if not points.isfinite().all():
        return torch.full_like(activation[0], float("nan"))
    # From the K x K matrix: the positions' own singular vectors would take (h w)^2 numbers.
    axis = torch.linalg.eigh(points.T @ points).eigenvectors[:, -1]
    component = points @ axis
    upright: Tensor = component * component[component.abs().argmax()].sign()
    return upright.relu().to(activation.dtype).reshape(activation.shape[1:])


@method("scorecam", "Score-CAM", "Wang et al. 2020, arXiv:1910.01279", layered=True)
def scorecam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k w_k A_k), w = softmax over k of the score of the input times A_k, stretched to 0..1.

    Algorithm 1, where the baseline's score cancels in the softmax. A_k is upsampled bilinearly and a flat one
    has no weight, as in the authors' code (github.com/haofanwang/Score-CAM), which however takes the class's
    probability for w_k, with no softmax over k.
    """
    maps = []
    for index, activation in enumerate(wide(trace.activations[layer])):
        scores = _scores_of_masked(trace, index, activation)
        weights = scores.softmax(dim=0) if scores.numel() and (scores > -torch.inf).any() else scores.exp()
        maps.append((weights[:, None, None] * activation).sum(dim=0).relu())
    return torch.stack(maps)


@torch.no_grad()
def _scores_of_masked(trace: Trace, index: int, activation: Tensor) -> Tensor:
    """Return the score of image `index` under each channel's mask, (K,); -infinity where that is flat."""
    image, size = wide(trace.images[index]), trace.images.shape[2:]
    scores = []
    for channels in torch.split(activation, MASKS_AT_ONCE):
        masks = F.interpolate(channels.unsqueeze(1), size=size, mode="bilinear", align_corners=False)
        low, high = (extreme(masks, dim=(2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
        masked = (image * (masks - low) / torch.where(high > low, high - low, 1)).to(trace.images.dtype)
        score = wide(trace.target.repeated(index, len(masked)).scores(trace.model(masked)))
        scores.append(score.masked_fill((high == low).flatten(), -torch.inf))
    return torch.cat(scores)
