"""Recognition: which architecture a checkpoint's keys and shapes belong to, and its strict restoration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from xface.models.architectures import ARCHITECTURES, Architecture
from xface.models.checkpoint import PREFIXES, Checkpoint, refusal

Shapes = Mapping[str, tuple[int, ...]]
LISTED = 10
ALIKE = 0.3  # below this part of common entries, naming a near miss would mislead


@dataclass(frozen=True)
class Misfit:
    """What of a checkpoint does not fit an architecture, by name and shape; false if all fits."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        return "; ".join(f"{kind}: {_shortened(names)}" for kind, names in kinds.items() if names)


def recognise(checkpoint: Checkpoint) -> Architecture:
    """The one architecture whose names and shapes are the checkpoint's, whatever its number of classes.

    Raises:
        CheckpointError: none fits (the nearest one is named, with what doesn't fit), or several do.
    """
    state, path = checkpoint.state, checkpoint.path
    fitting = [arch for arch in ARCHITECTURES.values() if _weight(arch) in state and not misfit(arch, state)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(arch.name for arch in fitting)
        raise refusal(path, f"it fits several architectures ({names}); say which one it is")
    near = max(ARCHITECTURES.values(), key=lambda arch: _likeness(arch, state))
    if _likeness(near, state) < ALIKE:
        names = _shortened(tuple(state))
        raise refusal(
            path,
            f"its keys fit no architecture of {', '.join(ARCHITECTURES)}; they are {names}{_foreign(state)}",
        )
    reason = f"its keys look like {near.name}, but do not fit: {misfit(near, state)}{_foreign(state)}"
    raise refusal(path, reason)


def restore(
    checkpoint: Checkpoint, arch: str | None = None, according_to: str = "the call"
) -> tuple[Architecture, nn.Module]:
    """The checkpoint's network in evaluation mode, in float32, on the CPU; without `arch` it is recognised.

    It is built without storage and takes its own copy of each weight, so that nothing is initialised in vain
    and the file may be overwritten later.

    Raises:
        CheckpointError: the weights do not fit the architecture exactly, are not finite, or hold negative
            variances.
        UnknownNameError: there is no such architecture.
    """
    architecture = recognise(checkpoint) if arch is None else ARCHITECTURES[arch]
    state, path = checkpoint.state, checkpoint.path
    if wrong := misfit(architecture, state):
        near = max(ARCHITECTURES.values(), key=lambda other: _likeness(other, state))
        hint = f"; its keys look like {near.name}" if near != architecture else ""
        reason = (
            f"it does not fit {architecture.name}, as {according_to} says{hint}; {wrong}{_foreign(state)}"
        )
        raise refusal(path, reason)
    with torch.device("meta"):
        model = architecture.build(_class_count(architecture, state))
    model.load_state_dict({name: _weights(checkpoint, name) for name in model.state_dict()}, assign=True)
    return architecture, model.eval().requires_grad_(False)


def misfit(arch: Architecture, state: Mapping[str, Tensor]) -> Misfit:
    """What of `state` does not fit `arch`; counters of BatchNorm that older files lack are no fault."""
    wanted = _shapes_with(arch, _class_count(arch, state))
    return Misfit(
        tuple(_entry(k, s) for k, s in wanted.items() if k not in state and not _is_counter(k)),
        tuple(_entry(k, tuple(t.shape)) for k, t in state.items() if k not in wanted),
        tuple(
            f"{_entry(key, tuple(state[key].shape))} instead of {_sides(shape)}"
            for key, shape in wanted.items()
            if key in state and state[key].shape != shape
        ),
    )


@cache
def _shapes(arch: Architecture) -> Shapes:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in arch.build(2).state_dict().items()}


def _shapes_with(arch: Architecture, class_count: int) -> Shapes:
    head = {_weight(arch), f"{arch.head}.bias"}
    return {k: (class_count, *shape[1:]) if k in head else shape for k, shape in _shapes(arch).items()}


def _class_count(arch: Architecture, state: Mapping[str, Tensor]) -> int:
    weight = state.get(_weight(arch))
    return weight.shape[0] if weight is not None and weight.ndim and weight.shape[0] else 2


def _weight(arch: Architecture) -> str:
    return f"{arch.head}.weight"


def _likeness(arch: Architecture, state: Mapping[str, Tensor]) -> float:
    """The part of all entries (name and shape) that `arch` and `state` share."""
    wanted = set(_shapes_with(arch, _class_count(arch, state)).items())
    given = {(name, tuple(tensor.shape)) for name, tensor in state.items()}
    return len(wanted & given) / len(wanted | given)


def _foreign(state: Mapping[str, Tensor]) -> str:
    """Which names kept a prefix of others from being taken off, if any did."""
    lacking = {prefix: tuple(name for name in state if not name.startswith(prefix)) for prefix in PREFIXES}
    prefix = min(lacking, key=lambda prefix: len(lacking[prefix]))
    if len(lacking[prefix]) == len(state):
        return ""
    return f"; {prefix!r} stays on, because these names lack it: {_shortened(lacking[prefix])}"


def _weights(checkpoint: Checkpoint, name: str) -> Tensor:
    """One tensor as the network needs it: an own, contiguous, finite copy in float32."""
    if _is_counter(name):
        return checkpoint.state.get(name, torch.zeros(())).to(torch.int64, copy=True)
    stored = checkpoint.state[name]
    if not stored.is_floating_point():
        raise refusal(checkpoint.path, f"{name} holds {stored.dtype}, not floating-point weights")
    tensor = stored.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
        raise refusal(checkpoint.path, f"{name} holds NaN or infinite weights; use an earlier checkpoint")
    if name.endswith("running_var") and (tensor < 0).any():
        raise refusal(checkpoint.path, f"{name} holds negative variances; use an earlier checkpoint")
    return tensor


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _entry(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} ({_sides(shape)})"


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _shortened(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
