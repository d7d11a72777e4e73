"""What is to be known of a network before its maps are believed, found by experiment.

- **Random numbers** drawn in a forward pass (a dropout that was left on): another call gives another map.
- **Images that influence each other** (batch norm without running statistics): an image alone scores
  otherwise than in its batch, and a map speaks of this batch alone. Tried once for each network.
- **Parts that no gradient reaches** (computed under no_grad, detached, rounded) although the score depends on
  them: maps show the rest of the network.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xface.attribution.graph import Reach, node_of
from xface.attribution.targets import class_scores
from xface.attribution.trace import Trace

NAMED = 4
_independent: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def findings(passes: Trace, drew: bool) -> tuple[str, ...]:
    """Return a sentence for each thing that was found; `drew` says that the random state moved."""
    if drew:
        return (
            "the network draws random numbers in its forward pass (dropout left on?): another call gives "
            "another map",
        )
    return (*_influence(passes), *_lost(passes))


def _influence(passes: Trace) -> tuple[str, ...]:
    model = passes.model
    if model in _independent or isinstance(model, torch.jit.ScriptModule):
        return ()
    usual = class_scores(passes.output, len(passes.images)).double()
    scores = _scores_apart(model, passes.images)
    if scores is None:
        return ()
    exact = passes.images.device.type == "cpu" and passes.output.dtype in (torch.float32, torch.float64)
    if _alike(usual, scores, exact) or not bool(usual.isfinite().all()):
        _independent.add(model)
        return ()
    return (
        "images of a batch influence each other (batch norm without running statistics?): this map holds for "
        "this batch alone",
    )


def _scores_apart(model: nn.Module, images: Tensor) -> Tensor | None:
    """The scores of the first image alone and of the others without it; of a single one beside another."""
    if len(images) == 1:
        beside = _scores(model, torch.cat([images, 0.5 * images.flip(-1) + 0.1]))
        return None if beside is None else beside[:1]
    first, others = _scores(model, images[:1]), _scores(model, images[1:])
    return None if first is None or others is None else torch.cat([first, others])


def _scores(model: nn.Module, images: Tensor) -> Tensor | None:
    with torch.no_grad(), suppress(Exception):
        return class_scores(model(images.clone()), len(images)).double()
    return None


def _alike(one: Tensor, other: Tensor, exact: bool) -> bool:
    """Up to rounding, which for scores near 0 is that of the larger numbers they come from."""
    # GPUs multiply in fewer bits, and so does a network in half precision.
    rounding = 1e-4 if exact else 1e-3
    return one.shape == other.shape and torch.allclose(one, other, rtol=rounding, atol=1e-5)


def _lost(passes: Trace) -> tuple[str, ...]:
    """Name the outermost modules that the image and the score depend through, and no gradient reaches."""
    if not passes.ends:
        return ()
    with suppress(Exception):
        parts = [name for name in _unreached(passes) if _matters(passes, name)]
        if parts:
            more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
            return (
                f"no gradient reaches {', '.join(map(repr, parts[:NAMED]))}{more}, though the score depends "
                "on it: it is computed without gradient, detached or rounded; maps show the rest",
            )
    return ()


def _unreached(passes: Trace) -> list[str]:
    """The outermost modules whose outputs depend on the image and aren't reached by the score's gradient."""
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            outputs[name] = output

    leaf = passes.images.clone().requires_grad_()
    output = _observed(passes.model, leaf.clone(), record)
    reach = Reach(passes.target.scores(output).sum())
    found = [name for name, tensor in outputs.items() if node_of(tensor) not in reach]
    values = {name: outputs[name].detach().clone() for name in found}
    with torch.no_grad():
        _observed(passes.model, 0.7 * passes.images.flip(-1) + 0.05, record)
    moved = [name for name in found if not torch.equal(values[name], outputs[name])]
    return [name for name in moved if not any(name.startswith(f"{outer}.") for outer in moved)]


def _observed(model: nn.Module, images: Tensor, record: Any) -> Tensor:
    handles = [
        module.register_forward_hook(partial(record, name)) for name, module in model.named_modules() if name
    ]
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # a network may leave it changed
            output: Tensor = model(images)
        return output
    finally:
        for handle in handles:
            handle.remove()


def _matters(passes: Trace, name: str) -> bool:
    """Whether the score changes with a module's output."""

    def shift(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * 1.5 + 0.1

    handle = passes.model.get_submodule(name).register_forward_hook(shift)
    try:
        with torch.no_grad():
            shifted = class_scores(passes.model(passes.images.clone()), len(passes.images))
    finally:
        handle.remove()
    return not torch.equal(shifted, class_scores(passes.output, len(passes.images)))
