"""The parts that a recipe is made of: losses, optimisers with parameter groups, learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, AdamW, Optimizer, lr_scheduler
from torchvision.transforms import v2

from xface.networks.architectures import Architecture
from xface.training import config as schema

MOMENTUM = 0.9
LEAST_CYCLE, LEAST_RISE = 4, 2  # steps; with fewer, torch's OneCycleLR divides by zero

Criterion: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From logits (N, classes) and labels (N,), or parts of each class (N, classes), to the mean loss."""
Objective: TypeAlias = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a network in training mode, images and labels to its logits and the loss to train with."""


def criterion(label_smoothing: float, weights: Tensor | None) -> Criterion:
    """Cross entropy with smoothed labels (Szegedy et al. 2016) and weighted classes.

    Weighted, it is torch's weighted mean, sum(w_y l) / sum(w_y); of mixed pictures sum(w_y l) / N.

    Example:
        >>> criterion(0.0, None)(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)
    """
    return partial(_cross_entropy, label_smoothing=label_smoothing, weights=weights)


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, weights: Tensor | None) -> Tensor:
    placed = None if weights is None else weights.to(logits.device, torch.float32)
    return F.cross_entropy(logits.float(), labels, placed, label_smoothing=label_smoothing)


def objective(arch: Architecture, loss: schema.Loss, criterion: Criterion, real: int) -> Objective:
    """What a network is trained with; `real` is the index of the class of real faces.

    Besides the criterion these are the network's own losses, or those of its auxiliary heads, whose logits it
    gives too, in training.
    """

    def with_own(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert arch.losses is not None
        logits, added = arch.losses(model, images, labels, real)
        return logits, criterion(logits, labels) + added

    def with_auxiliary(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = model(images)
        logits, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        total = criterion(logits, labels)
        for other in others:
            total = total + loss.auxiliary * criterion(other, labels)
        return logits, total

    return with_own if arch.losses else with_auxiliary


def optimizer(model: nn.Module, arch: Architecture, settings: schema.Optimizer) -> Optimizer:
    """The optimiser with two groups of parameters: the trunk, and the heads at their own rate.

    Example:
        >>> from xface.networks import architecture
        >>> arch = architecture("resnet18")
        >>> made = optimizer(arch.build(2), arch, schema.Optimizer(lr=1e-3, head_lr_multiplier=10))
        >>> [(group["name"], group["lr"], len(group["params"])) for group in made.param_groups]
        [('trunk', 0.001, 60), ('head', 0.01, 2)]
    """
    prefixes = tuple(f"{head}." for head in (arch.head, *arch.aux_heads))
    named = list(model.named_parameters())
    head = [parameter for name, parameter in named if name.startswith(prefixes)]
    trunk = [parameter for name, parameter in named if not name.startswith(prefixes)]
    head_lr = settings.lr * settings.head_lr_multiplier
    groups = [
        {"name": "trunk", "params": trunk, "lr": settings.lr},
        {"name": "head", "params": head, "lr": head_lr},
    ]
    return _OPTIMIZERS[settings.type](groups, lr=settings.lr, weight_decay=settings.weight_decay)


def _sgd(groups: list[dict[str, Any]], **settings: float) -> Optimizer:
    return SGD(groups, momentum=MOMENTUM, **settings)  # type: ignore[arg-type]


_OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "Adam": Adam,
    "AdamW": AdamW,
    "Adadelta": Adadelta,
    "SGD": _sgd,
}


def schedule(settings: Any, made: Optimizer, epochs: int, steps: int) -> dict[str, Any]:
    """A schedule as Lightning takes it; `steps` are the training steps of an epoch.

    Example:
        >>> made = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> cosine = schedule(schema.CosineAnnealing(type="CosineAnnealing"), made, epochs=2, steps=5)
        >>> made.step(); cosine["scheduler"].step(); round(cosine["scheduler"].get_last_lr()[0], 3)
        0.5
    """
    every = getattr(settings, "every", "epoch")
    total = epochs * (steps if every == "step" else 1)
    if isinstance(settings, schema.StepLR):
        scheduler: Any = lr_scheduler.StepLR(made, settings.step_size, settings.gamma)
    elif isinstance(settings, schema.ExponentialLR):
        scheduler = lr_scheduler.ExponentialLR(made, settings.gamma)
    elif isinstance(settings, schema.CosineAnnealing):
        scheduler = lr_scheduler.CosineAnnealingLR(made, total, settings.min_lr)
    elif isinstance(settings, schema.OneCycleLR):
        return _by_step(_one_cycle(settings, made, epochs * steps))
    else:
        return _plateau(settings, made)
    return {"scheduler": scheduler, "interval": every, "frequency": 1}


def _by_step(scheduler: Any) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step", "frequency": 1}


def _one_cycle(settings: schema.OneCycleLR, made: Optimizer, steps: int) -> Any:
    highest = [group["lr"] for group in made.param_groups]
    total = max(steps, LEAST_CYCLE)
    return lr_scheduler.OneCycleLR(
        made, highest, total_steps=total, pct_start=max(settings.warmup, LEAST_RISE / total)
    )


def _plateau(settings: schema.ReduceLROnPlateau, made: Optimizer) -> dict[str, Any]:
    scheduler = lr_scheduler.ReduceLROnPlateau(
        made,
        schema.mode(settings.monitor),
        settings.factor,
        settings.patience,
        threshold=0.0,
        min_lr=settings.min_lr,
    )
    return {
        "scheduler": scheduler,
        "interval": "epoch",
        "frequency": 1,
        "monitor": settings.monitor,
        "reduce_on_plateau": True,
    }


_KINDS: Mapping[str, Callable[..., v2.Transform]] = {"cutmix": v2.CutMix, "mixup": v2.MixUp}


def mixing(settings: schema.Mixing, classes: int) -> Any:
    """What mixes a batch: images (N, 3, H, W) and labels (N,) to images and targets.

    Each picture is mixed with the one before it in the batch, with a part l of its own, l ~ Beta(alpha,
    alpha), the same for the whole batch: mixup adds l x + (1 - l) x' (Zhang et al. 2018, arXiv:1710.09412),
    CutMix replaces a rectangle of the part 1 - l (Yun et al. 2019, arXiv:1905.04899). Targets are
    l y + (1 - l) y', (N, classes). A batch that isn't mixed keeps its labels (N,). torchvision does it, with
    torch's generator.

    Example:
        >>> import torch
        >>> _, targets = mixing(schema.Mixing(), 2)(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> targets.shape, bool((targets.sum(1) == 1).all())
        (torch.Size([4, 2]), True)
    """
    kinds = [_KINDS[kind](alpha=settings.alpha, num_classes=classes) for kind in settings.kinds]
    return v2.RandomApply([v2.RandomChoice(kinds)], p=settings.probability)


def likeliest(targets: Tensor) -> Tensor:
    """The class of the larger part of each picture, (N,); of equal parts, the first class."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)
