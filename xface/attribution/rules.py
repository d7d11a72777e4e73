"""Backward rules: what a rectifier does to the gradient that arrives at it.

With g the incoming gradient, z the rectifier's input and sigma its function:

| rule | ReLU | any other rectifier |
|---|---|---|
| plain | g [z > 0] | g sigma'(z) |
| guided (Springenberg et al. 2014, arXiv:1412.6806) | max(g, 0) [z > 0] | max(g, 0) [z > 0] sigma'(z) |
| deconvnet (Zeiler and Fergus 2013, arXiv:1311.2901) | max(g, 0) | max(g, 0) |

The last column is xface's extension of the published rules; it equals them where sigma is the ReLU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Chain = Callable[[Tensor], Tensor]
Rule = Callable[[Tensor, Tensor, Chain | None], Tensor]
"""(g, z, chain) -> the gradient for z; chain(g) is g sigma'(z), or None for the ReLU: g [z > 0] there."""


def _where_positive(g: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(g, z, 0)  # type: ignore[no-any-return]


def plain(g: Tensor, z: Tensor, chain: Chain | None) -> Tensor:
    """Return the true gradient: g sigma'(z)."""
    return chain(g) if chain else _where_positive(g, z)


def guided(g: Tensor, z: Tensor, chain: Chain | None) -> Tensor:
    """Return max(g, 0) [z > 0] sigma'(z)."""
    positive = _where_positive(g, z).relu_()
    return chain(positive) if chain else positive


def deconvnet(g: Tensor, z: Tensor, chain: Chain | None) -> Tensor:
    """Return max(g, 0), whatever z was."""
    return g.relu()


RULES: dict[str, Rule] = {"plain": plain, "guided": guided, "deconvnet": deconvnet}
