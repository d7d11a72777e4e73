"""Whitened first convolutions: initial filters that see all frequencies of the pictures equally well."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xface.data.dataset import FaceDataset
from xface.errors import UsageError

PICTURES, PATCHES = 2000, 64  # 128,000 patches for a covariance of 147 x 147, the usual stem's
FLOOR = 1e-4  # added to each variance: about that of rounding to 256 levels


def whiten(model: nn.Module, faces: FaceDataset, seed: int) -> None:
    """Set a network's first convolution to eigenvectors of the pictures' patches, each of unit variance.

    Natural pictures hold a thousand times less variance in fine detail than in coarse shapes, and a random
    filter sees the coarse ones. What a generator leaves behind is fine detail. With rows v_i / sqrt(l_i), for
    l_i and v_i the eigenvalues and eigenvectors of the covariance of k x k patches, every frequency comes
    through with the same variance (a whitened first layer: Coates, Ng and Lee 2011; of C k^2 rows as many as
    the layer has filters are taken, evenly from the coarsest to the finest).

    Raises:
        UsageError: the network doesn't begin with a convolution of three channels.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise UsageError("model.whitened needs a network that begins with a convolution of RGB")
    filters = whitening_filters(_patches(faces, first, seed), first.out_channels)
    with torch.no_grad():
        first.weight.copy_(filters.reshape(first.weight.shape))


def whitening_filters(patches: Tensor, count: int) -> Tensor:
    """Whitening filters (count, D) of patches (N, D), from the coarsest to the finest.

    Where more are asked for than there are dimensions they are repeated with the sign turned.

    Example:
        >>> patches = torch.randn(5000, 3) @ torch.diag(torch.tensor([100.0, 10.0, 1.0]))
        >>> responses = patches @ whitening_filters(patches, 3).T
        >>> responses.std(dim=0).round(decimals=2)
        tensor([1., 1., 1.])
    """
    values, vectors = torch.linalg.eigh(patches.double().T.cov())
    rows = (vectors / (values + FLOOR).sqrt()).T.flip(0)
    rows = torch.cat([rows, -rows])[: max(count, len(rows))]
    chosen = torch.linspace(0, len(rows) - 1, count, dtype=torch.float64).round().long()
    return rows[chosen].float()


def _patches(faces: FaceDataset, first: nn.Conv2d, seed: int) -> Tensor:
    """Patches (N, D) of training pictures as the network gets them, at random places."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(faces), min(PICTURES, len(faces)), replace=False)
    return torch.cat([_of_one(faces[int(row)][0], first, rng) for row in rows])


def _of_one(tensor: Tensor, first: nn.Conv2d, rng: np.random.Generator) -> Tensor:
    size = (first.kernel_size[0], first.kernel_size[1])
    patches = F.unfold(tensor[None], size)[0].T
    return patches[torch.from_numpy(rng.integers(0, len(patches), PATCHES))]
