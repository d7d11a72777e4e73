"""Further class activation maps, at a layer's own resolution: (N, h, w) after the ReLU.

With A the layer's activation and g the score's gradient there, both (N, K, h, w).
"""

from __future__ import annotations

import os
from contextlib import redirect_stderr

import torch
from torch import Tensor

from xface.attribution.methods import method
from xface.attribution.trace import Trace


@method(
    "gradcam++",
    "Grad-CAM++",
    "Chattopadhay et al. 2018, arXiv:1710.11063",
    layered=True,
    layer_gradients=True,
)
def gradcam_plus_plus(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k w_k A_k), w_k = sum_ij a max(g, 0), a = g^2 / (2 g^2 + g^3 sum_ij A) (eq. 19)."""
    activation, g = trace.activations[layer], trace.layer_gradients[layer]
    # Divided through by g^2, which underflows in float32 long before g does; a is 0 where g is 0.
    denominator = 2 + g * activation.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where((g != 0) & (denominator != 0), 1 / denominator, torch.zeros_like(g))
    weights = (alpha * g.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1).relu()


@method("layercam", "LayerCAM", "Jiang et al. 2021, IEEE TIP 30", layered=True, layer_gradients=True)
def layercam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k max(g_k, 0) A_k), position by position."""
    return (trace.layer_gradients[layer].relu() * trace.activations[layer]).sum(dim=1).relu()


@method(
    "hirescam", "HiResCAM", "Draelos and Carin 2020, arXiv:2011.08891", layered=True, layer_gradients=True
)
def hirescam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k g_k A_k), position by position."""
    return (trace.layer_gradients[layer] * trace.activations[layer]).sum(dim=1).relu()


@method("eigencam", "EigenCAM", "Muhammad and Yeasin 2020, arXiv:2008.00299", layered=True)
def eigencam(trace: Trace, layer: str) -> Tensor:
    """The centred activation projected on its first principal axis; the same for every class.

    An axis has no sign: as in Chung and Ying 2025 (Seg-Eigen-CAM, eq. 13) the side with the larger extreme
    counts as positive.
    """
    return torch.stack([_first_component(activation) for activation in trace.activations[layer]])


def _first_component(activation: Tensor) -> Tensor:
    """Return the first principal component of a (K, h, w) activation, (h, w); NaN where it isn't finite."""
    points = activation.flatten(1).T.double()
    if not points.isfinite().all():
        return torch.full_like(activation[0], float("nan"))
    centred = points - points.mean(dim=0)
    # From the K x K covariance: the positions' own singular vectors would take (h w)^2 numbers.
    axis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    component = centred @ axis
    upright: Tensor = component * component[component.abs().argmax()].sign()
    return upright.relu().to(activation.dtype).reshape(activation.shape[1:])


@method("scorecam", "Score-CAM", "Wang et al. 2020, arXiv:1910.01279", layered=True)
def scorecam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k w_k A_k), w = softmax over k of the score of the input masked by A_k (by grad-cam)."""
    from pytorch_grad_cam import ScoreCAM

    library = ScoreCAM(trace.model, [])
    maps = []
    for index, image in enumerate(trace.images):
        target = trace.target.repeated(index, 1)
        activation = trace.activations[layer][index : index + 1].contiguous().cpu().numpy()
        # The library draws a progress bar for every image.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            maps.append(
                library.get_cam_image(
                    image.unsqueeze(0),
                    None,
                    [lambda row, t=target: t.scores(row.unsqueeze(0))[0]],
                    activation,
                    None,
                )
            )
    return torch.cat([torch.from_numpy(m) for m in maps]).relu().to(trace.images.device)
