"""What is explained: one score per image, from the network's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xface.errors import AttributionError, TargetError

Targets = int | Sequence[int] | Tensor | str | Callable[[Tensor], Tensor] | None


def class_scores(output: Tensor, count: int, probability: bool = False) -> Tensor:
    """Return one score per class for each of `count` images; one sigmoid logit z becomes (-z, z).

    With `probability` a single column is one, p, and becomes (1 - p, p).

    Raises AttributionError for an output that is no tensor (N, C), (N, 1), (N,), or (C,) for a single image.

    Example:
        >>> class_scores(torch.tensor([[3.0]]), 1)
        tensor([[-3.,  3.]])
        >>> class_scores(torch.tensor([3.0, 5.0]), 2)
        tensor([[-3.,  3.],
                [-5.,  5.]])
    """
    if not isinstance(output, Tensor):
        raise AttributionError(
            f"the network returned a {type(output).__name__}, not a tensor of logits; "
            "wrap it in a module that returns the logits"
        )
    # A network that squeezes its output gives (N,) for one logit, and (C,) for a single image.
    squeezed = output.ndim < 2 and (count == 1 or output.numel() == count)
    logits = output.reshape(count, -1) if squeezed else output
    if logits.ndim != 2 or len(logits) != count:
        raise AttributionError(
            f"the network returned shape {tuple(output.shape)}; {count} rows of logits are needed"
        )
    if logits.shape[1] > 1:
        return logits
    return torch.cat([1 - logits if probability else -logits, logits], dim=1)


@dataclass(frozen=True)
class Target:
    """The classes to explain, (N,), and whether against the best other class (`margin`) or alone.

    `probability` says that a single output is a probability, no logit.
    """

    classes: Tensor
    margin: bool = False
    probability: bool = False

    def scores(self, output: Tensor) -> Tensor:
        """Return each image's score, (N,): its class's logit, less the best other one for a margin."""
        scores = class_scores(output, len(self.classes), self.probability)
        own = self.classes.to(scores.device).unsqueeze(1)
        chosen = scores.gather(1, own).squeeze(1)
        if not self.margin:
            return chosen
        return chosen - scores.scatter(1, own, float("-inf")).amax(dim=1)

    def repeated(self, index: int, count: int) -> Target:
        """Return the target of image `index`, `count` times."""
        return Target(self.classes[index].expand(count), self.margin, self.probability)


def resolve(targets: Targets, output: Tensor, count: int, probability: bool = False) -> Target:
    """Return the target for the output of `count` images: None or `margin` take each image's predicted class.

    A function gives each image's class from the raw output, by a threshold for instance.

    Raises TargetError for a wrong number of targets or a class that the network doesn't have.

    Example:
        >>> resolve(None, torch.tensor([[0.1, 0.9], [2.0, 1.0]]), 2).classes
        tensor([1, 0])
        >>> resolve([1, 1, 0], torch.zeros(2, 2), 2)
        Traceback (most recent call last):
        xface.errors.TargetError: 3 targets for 2 images; give one class index, or one per image
    """
    scores = class_scores(output, count, probability).detach()
    if isinstance(targets, str) and targets != "margin":
        raise TargetError(
            f"unknown target {targets!r}; give None, 'margin', a class index, or one index per image"
        )
    if targets is None or isinstance(targets, str):
        return Target(scores.argmax(dim=1), targets == "margin", probability)
    chosen = targets(output.detach()) if callable(targets) else targets
    return Target(_indices(chosen, *scores.shape).to(scores.device), probability=probability)


def _indices(targets: int | Sequence[int] | Tensor, count: int, classes: int) -> Tensor:
    indices = torch.as_tensor(targets)
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.ndim > 1:
        raise TargetError(f"targets must be whole class indices, not {targets!r}")
    if indices.ndim == 1 and len(indices) != count:
        raise TargetError(
            f"{len(indices)} targets for {count} images; give one class index, or one per image"
        )
    if ((indices < 0) | (indices >= classes)).any():
        raise TargetError(f"class index {indices.tolist()} is outside 0 to {classes - 1}")
    return indices.long().expand(count)
