"""Networks that have forgotten what they learnt: wholly, or from the top down to some layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

UNTRAINED_SEED = 0
CHUNKS = 4  # stages of a network that names none
RESETS = ("reset_parameters", "_reset_parameters")


def cascade(model: nn.Module, stages: Sequence[str], seed: int = UNTRAINED_SEED) -> dict[str, nn.Module]:
    """Copies of a network with random weights from the top down to each stage, that included.

    The weights of the last one are all random: it is the untrained network. All that isn't random is shared
    with `model`, and what is with the last, so that the copies take little memory.

    Args:
        model: the trained network, which stays as it is.
        stages: names of its modules, from fine to coarse, as `Architecture.stages`; what comes after a stage
            and before the next belongs to the next, and what comes after the last is called `head`.
        seed: of the random weights.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> found = cascade(net, ["0", "1"])
        >>> list(found), found["1"][0].weight is net[0].weight, found["1"][1].weight is net[1].weight
        (['head', '1', '0'], True, False)
    """
    groups = _groups(model, stages)
    random = untrained(model, seed)
    found: dict[str, nn.Module] = {}
    replaced: set[str] = set()
    for stage, names in groups.items():
        replaced |= names
        found[stage] = _mixed(model, random, replaced)
    return found


def untrained(model: nn.Module, seed: int = UNTRAINED_SEED) -> nn.Module:
    """A copy of a network with the weights that it would begin training with.

    Each module draws its own anew, as PyTorch's do, and normalisation forgets its statistics; a weight of a
    module that cannot do that is drawn from a normal distribution with the mean and spread that it has.
    """
    found = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in found.modules():
            _forget(module)
    return found.requires_grad_(False).eval()


def _forget(module: nn.Module) -> None:
    reset = next((getattr(module, name) for name in RESETS if callable(getattr(module, name, None))), None)
    if reset is not None:
        _on_the_cpu(module, reset)
        return
    for weights in module.parameters(recurse=False):
        drawn = torch.empty(weights.shape).normal_()
        spread = weights.float().std(correction=0)
        weights.copy_(drawn.to(weights.device) * spread + weights.float().mean())


def _on_the_cpu(module: nn.Module, reset: Callable[[], Any]) -> None:
    """Draw there, whatever the device: the numbers must be the same."""
    place = next(iter(module.state_dict().values()), torch.empty(0)).device
    module.cpu()
    reset()
    module.to(place)


def _groups(model: nn.Module, stages: Sequence[str]) -> dict[str, set[str]]:
    """The modules that hold weights, by the stage they belong to, from the top down."""
    holders = [name for name, module in model.named_modules() if next(_own(module), None) is not None]
    ends = _ends(holders, stages)
    starts = [0, *ends.values()]
    parts = [set(holders[start:end]) for start, end in zip(starts, ends.values(), strict=False)]
    named = dict(zip(ends, parts, strict=True))
    named["head"] = set(holders[starts[-1] :])
    return {name: named[name] for name in reversed(named) if named[name]}


def _ends(holders: Sequence[str], stages: Sequence[str]) -> dict[str, int]:
    """Where each stage ends in the order of the modules; where none is known, quarters of the network."""
    ends = {
        stage: max(k for k, name in enumerate(holders) if f"{name}.".startswith(f"{stage}.")) + 1
        for stage in stages
        if any(f"{name}.".startswith(f"{stage}.") for name in holders)
    }
    if not ends:
        cuts = sorted({len(holders) * part // CHUNKS for part in range(1, CHUNKS)} - {0})
        ends = {holders[cut - 1]: cut for cut in cuts}
    return dict(sorted(ends.items(), key=lambda each: each[1]))


def _own(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _mixed(model: nn.Module, random: nn.Module, replaced: set[str]) -> nn.Module:
    """A copy of `model` that has the tensors of `random` in the modules `replaced`, sharing both's."""
    memo: dict[int, Tensor] = {id(each): each for module in model.modules() for each in _own(module)}
    mixed = copy.deepcopy(model, memo)
    source: Mapping[str, nn.Module] = dict(random.named_modules())
    for name, module in mixed.named_modules():
        if name in replaced:
            for kind in ("_parameters", "_buffers"):
                getattr(module, kind).update(getattr(source[name], kind))
    return mixed.eval()
