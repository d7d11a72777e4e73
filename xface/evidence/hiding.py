"""Hiding: areas of a face replaced by what says nothing of them, with soft edges.

A fill says what stands in place of what is hidden. Fills see prepared pixels, in which colours are shifted
and scaled but not mixed, so that means and blurs of them are those of the picture's colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from xface.errors import UsageError
from xface.faces.face_axes import FaceAxes
from xface.faces.regions import region_labels
from xface.registry import Registry
from xface.results import FloatArray

BLUR = 0.15  # sigma of the fill, in inter-ocular distances
FEATHER = 0.03  # sigma of the soft edges, in inter-ocular distances
REACH = 3  # sigmas: where a Gaussian ends
NOISE = 0.01  # standard deviation of the imputation's noise, in those of the picture
SWEEPS = 6  # at each size of the imputation's pyramid
COARSEST = 2  # pixels: at this size the pyramid ends


@dataclass(frozen=True, eq=False)
class ShownFace:
    """A face as a network sees it: `image` (3, H, W) prepared, region `labels` (H, W), 255 for none.

    `iod` is the inter-ocular distance in these pixels; `counterpart` the prepared picture (3, H, W) that it
    was made from, or that was made from it, pixel for pixel in the same place.
    """

    image: Tensor
    labels: Tensor
    iod: float
    counterpart: Tensor | None = None

    @classmethod
    def of(cls, image: Tensor, landmarks: FloatArray, counterpart: Tensor | None = None) -> ShownFace:
        """A prepared picture with its (68, 2) `landmarks`, x before y, in its pixels.

        Raises:
            LandmarkError: as `region_labels`.
        """
        size = (image.shape[-2], image.shape[-1])
        labels = torch.from_numpy(region_labels(landmarks, size)).to(image.device)
        return cls(image, labels, FaceAxes.of(landmarks, size).iod, counterpart)

    @cached_property
    def smooth(self) -> Tensor:
        """The picture smoothed by a Gaussian of 0.15 inter-ocular distances, once for all that is hidden."""
        return blurred(self.image, BLUR * self.iod)


Fill: TypeAlias = Callable[[ShownFace, Tensor], Tensor]
"""A face and weights (K, H, W), 1 where it is hidden, to what stands there: (K or 1, 3, H, W)."""

FILLS: Registry[Fill] = Registry("fill")
"""What can stand in place of a region. `counterpart` is for `xface trust` alone, which has aligned pairs.

It is no part of a mean over fills: effects of faces with and without a partner would be different quantities,
and where a partner has moved, what is pasted is not the region.
"""
COUNTERPART = "counterpart"


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Channels (..., H, W) smoothed by a Gaussian of `sigma` pixels; the picture's edge is repeated outside.

    Example:
        >>> edge = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 6, 6)
        >>> [round(value, 3) for value in blurred(edge, 1.0)[0, 0].tolist()]
        [0.004, 0.058, 0.3, 0.7, 0.942, 0.996]
    """
    radius = max(1, math.ceil(REACH * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    kernel = kernel / kernel.sum()
    flat = image.reshape(1, -1, *image.shape[-2:])
    down = _each_channel(F.pad(flat, (0, 0, radius, radius), "replicate"), kernel[:, None])
    both = _each_channel(F.pad(down, (radius, radius, 0, 0), "replicate"), kernel[None, :])
    return both.reshape(image.shape)


def _each_channel(channels: Tensor, kernel: Tensor) -> Tensor:
    """Channels (1, C, H, W) each filtered alone, which costs a tenth of a batch of single channels."""
    count = channels.shape[1]
    return F.conv2d(channels, kernel.expand(count, 1, *kernel.shape), groups=count)


def feathered(masks: Tensor, iod: float) -> Tensor:
    """How far each pixel is hidden, (K, H, W) within 0 to 1, for masks (K, H, W): 1 in all of the mask.

    The edges fall off outside it, by a Gaussian of 0.03 inter-ocular distances.
    """
    soft = 2 * blurred(masks.float(), FEATHER * iod)
    return torch.maximum(masks.float(), soft.clamp(0, 1) * (soft > 0.05))


def hide(face: ShownFace, weights: Tensor, fill: str) -> Tensor:
    """The face once per weight map (K, H, W), with what is weighted replaced by a fill: (K, 3, H, W).

    Raises:
        UnknownNameError: there is no such fill. UsageError: `counterpart` for a face that has none.

    Example:
        >>> face = ShownFace(torch.arange(48.0).reshape(3, 4, 4), torch.zeros(4, 4), iod=2.0)
        >>> hide(face, torch.ones(1, 4, 4), "mean")[0, :, 0, 0].tolist()
        [7.5, 23.5, 39.5]
    """
    there = FILLS[fill](face, weights)
    return face.image + weights[:, None] * (there - face.image)


def blur(face: ShownFace, weights: Tensor) -> Tensor:
    """The face smoothed by a Gaussian of 0.15 inter-ocular distances."""
    return face.smooth[None]


def mean(face: ShownFace, weights: Tensor) -> Tensor:
    """The mean colour of what is hidden."""
    total = weights.sum(dim=(1, 2)).clamp(min=1e-6)
    return (torch.einsum("khw,chw->kc", weights, face.image) / total[:, None])[:, :, None, None]


def inpaint(face: ShownFace, weights: Tensor) -> Tensor:
    """Noisy linear imputation (Rong et al. 2022): each hidden pixel is the mean of its neighbours, plus
    noise.

    Direct neighbours count 1/6, diagonal ones 1/12, as in the authors' program. The linear system is solved
    from coarse to fine by Jacobi sweeps, which leaves what no pixel around it knows smooth.
    """
    filled = torch.cat([_in_window(face.image, hidden) for hidden in weights > 0])
    noise = torch.randn(face.image.shape, generator=torch.Generator().manual_seed(0)).to(filled)
    return filled + NOISE * face.image.std() * noise


def _in_window(image: Tensor, hidden: Tensor) -> Tensor:
    """(1, 3, H, W): the `hidden` pixels (H, W) from those around them, solved in their bounding box alone."""
    filled = image[None].clone()
    if hidden.any():
        rows, columns = (_extent(hidden.any(dim=1 - axis)) for axis in (0, 1))
        filled[..., rows, columns] = imputed(filled[..., rows, columns], ~hidden[None, None, rows, columns])
    return filled


def _extent(along: Tensor) -> slice:
    """From one place before the first that is True to one behind the last."""
    there = along.nonzero()
    return slice(max(int(there[0]) - 1, 0), int(there[-1]) + 2)


def imputed(image: Tensor, known: Tensor) -> Tensor:
    """(K, 3, H, W) of images (K or 1, 3, H, W): `known` (K, 1, H, W) pixels as they are, others from them."""
    if known.all():  # as soon as each pixel stands for some known one, coarser sizes would change nothing
        return image.expand(len(known), *image.shape[1:])
    if min(image.shape[-2:]) <= COARSEST:
        count = known.sum(dim=(2, 3), keepdim=True)
        return torch.where(known, image, (image * known).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1))
    part = F.avg_pool2d(known.to(image), 2, ceil_mode=True, count_include_pad=False)
    small = F.avg_pool2d(image * known, 2, ceil_mode=True, count_include_pad=False) / part.clamp(min=1e-6)
    coarse = imputed(small, part > 0)
    start = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return _relaxed(torch.where(known, image, start), image, known)


def _relaxed(values: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """Some sweeps in which each pixel that is not `known` becomes the mean of its neighbours.

    The weights 1/6 and 1/12 are those of (1, 2, 1) across times (1, 2, 1) down, less the middle.
    """
    for _ in range(SWEEPS):
        padded = F.pad(values, (1, 1, 1, 1), "replicate")
        across = (padded[..., :-2] + padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
        both = (across[..., :-2, :] + across[..., 2:, :]).add_(across[..., 1:-1, :], alpha=2)
        values = torch.where(known, image, both.add_(values, alpha=-4).mul_(1 / 12))
    return values


def counterpart(face: ShownFace, weights: Tensor) -> Tensor:
    """The paired real or forged picture's pixels."""
    if face.counterpart is None:
        raise UsageError(f"the fill {COUNTERPART!r} needs the paired picture, and this face has none")
    return face.counterpart[None]


for _fill in (blur, mean, inpaint, counterpart):
    FILLS.add(_fill.__name__, _fill)

NEUTRAL = tuple(name for name in FILLS if name != COUNTERPART)
"""The fills that need the face alone; an effect is the mean over them."""
