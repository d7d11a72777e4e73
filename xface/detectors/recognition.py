"""Recognition: which architecture a checkpoint's keys and shapes belong to, and its strict restoration."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from xface.detectors.checkpoints.checkpoint import Checkpoint
from xface.detectors.checkpoints.state_dicts import PREFIXES, bare, by_prefix, mappings
from xface.errors import UsageError, refusal
from xface.networks.architectures import TIMM, Architecture, Shapes
from xface.networks.blueprints import Undrawn
from xface.networks.timm_index import timm_names
from xface.networks.zoo import ARCHITECTURES, architecture, is_architecture

NAMED_BY = ("arch", "architecture", "model", "model_name", "network", "backbone")
LISTED = 10
MAX_PARTS = 6
MAX_NAMED = 10  # of a file that names more, the others are not tried
LONGEST_NAME = 100
ALIKE = 0.3  # below this part of common entries, naming a near miss would mislead


@dataclass(frozen=True)
class Restored:
    """A network with a checkpoint's weights, its architecture, and what of the file was not used.

    `alike` are other architectures that the weights fit as well, where nobody said which one it is.
    """

    arch: Architecture
    model: nn.Module
    unused: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()


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

    A name that the file itself gives, under one of `NAMED_BY`, is taken if it fits; a registered architecture
    goes before timm's others.

    Raises:
        CheckpointError: none fits (the nearest one is named, with what doesn't fit), or several do.
    """
    state, path = checkpoint.state, checkpoint.path
    if named := _named_in(checkpoint):
        return named
    fitting = _fitting(state)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(arch.name for arch in fitting)
        raise refusal(path, f"it fits several architectures ({names}); say which one it is (--arch)")
    hint, near = _within(state), _nearest(state)
    if near is None or _likeness(near, state) < ALIKE:
        raise refusal(
            path,
            f"{hint}its keys fit no architecture of {', '.join(ARCHITECTURES)}, "
            f"and none that is known of timm's; they are {_shortened(tuple(state))}{_foreign(state)}",
        )
    wrong = misfit(near, _renamed(near, state))
    raise refusal(path, f"{hint}its keys look like {near.name}, but do not fit: {wrong}{_foreign(state)}")


def _fitting(state: Mapping[str, Tensor]) -> list[Architecture]:
    """Those of the first kind of candidates of which any fits."""
    for candidates in (_likely, _registered, _timms):
        if fitting := [arch for arch in candidates(state) if not misfit(arch, _renamed(arch, state))]:
            return fitting
    return []


def _within(state: Mapping[str, Tensor]) -> str:
    """Which prefixes have a whole network behind them, and which it is."""
    parts = {prefix: bare(part)[0] for prefix, part in by_prefix(dict(state)).items() if len(part) > 1}
    if len(parts) > MAX_PARTS:
        return ""
    found = {prefix: _fitting(part) for prefix, part in parts.items()}
    listed = " or ".join(f"{prefix!r} ({archs[0].name})" for prefix, archs in found.items() if archs)
    return f"--state-key takes the network under {listed} alone; " if listed else ""


def _nearest(state: Mapping[str, Tensor]) -> Architecture | None:
    """The registered architecture with most entries in common, of those that have any module's name so."""
    close = [arch for arch in ARCHITECTURES.values() if _roots(arch) & _firsts(_renamed(arch, state))]
    return max(close, key=lambda arch: _likeness(arch, state), default=None)


def _roots(arch: Architecture) -> set[str]:
    return _firsts((*arch.stages, arch.head))


def _firsts(names: Iterable[str]) -> set[str]:
    """The first part of each name."""
    return {name.partition(".")[0] for name in names}


def restore(checkpoint: Checkpoint, arch: str | None = None, according_to: str = "the call") -> Restored:
    """The checkpoint's network in evaluation mode, in float32, on the CPU; without `arch` it is recognised.

    It is built without storage and takes its own copy of each weight, so that nothing is initialised in vain
    and the file may be overwritten later.

    Raises:
        CheckpointError: the weights do not fit the architecture exactly, are not finite, or hold negative
            variances.
        UnknownNameError: there is no such architecture.
    """
    entry = recognise(checkpoint) if arch is None else architecture(arch)
    state = _renamed(entry, checkpoint.state)
    if wrong := misfit(entry, state):
        near = _nearest(checkpoint.state) or entry
        is_nearer = _likeness(near, checkpoint.state) > _likeness(entry, checkpoint.state)
        hint = f"; its keys look like {near.name}" if is_nearer else ""
        reason = f"it does not fit {entry.name}, which is given by {according_to}{hint}; {wrong}"
        raise refusal(checkpoint.path, reason + _foreign(checkpoint.state))
    model = _blank(entry, state)
    blank = model.state_dict()
    _check_tied(checkpoint, model, state)
    copies = {name: _weights(checkpoint, name, state.get(name), like) for name, like in blank.items()}
    model.load_state_dict(copies, assign=True)
    unused = (*checkpoint.left_out, *(name for name in state if name not in blank))
    alike = _alike(checkpoint, entry) if arch is None else ()
    return Restored(entry, model.eval().requires_grad_(False), unused, alike)


def _alike(checkpoint: Checkpoint, arch: Architecture) -> tuple[str, ...]:
    """timm's networks that the weights of a registered one fit too: they differ in what has no weights."""
    if arch.name not in ARCHITECTURES or _named_in(checkpoint):
        return ()
    names = timm_names(_shapes_of(_renamed(arch, checkpoint.state)))
    return tuple(name for name in names if not name.endswith(arch.name))


def _check_tied(checkpoint: Checkpoint, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse a file in which names that share one weight in the network have several values."""
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if other != name and not torch.equal(state[other], state[name]):
            raise refusal(
                checkpoint.path, f"{other} and {name} are one weight in the network, but differ here"
            )


def _blank(arch: Architecture, state: Mapping[str, Tensor]) -> nn.Module:
    """The network without storage; or with, where it has tensors of its own that no state dict holds."""
    build = partial(arch.build, _class_count(arch, state), **arch.options(_shapes_of(state)))
    with torch.device("meta"), Undrawn():
        model = build()
    attributes = (value for module in model.modules() for value in vars(module).values())
    computed = dict(model.named_buffers()).keys() - model.state_dict().keys()
    if computed or any(isinstance(value, Tensor) for value in attributes):
        with torch.random.fork_rng(devices=[]):
            return build()
    return model


def misfit(arch: Architecture, state: Mapping[str, Tensor]) -> Misfit:
    """What of `state` (tensors of any shape) does not fit `arch`; counters of BatchNorm may be missing."""
    wanted = _wanted(arch, state)
    unexpected = (key for key in state if key not in wanted and not _is_unused(arch, key))
    return Misfit(
        tuple(_entry(k, s) for k, s in wanted.items() if k not in state and not _is_counter(k)),
        tuple(_entry(key, tuple(state[key].shape)) for key in unexpected),
        tuple(
            f"{_entry(key, tuple(state[key].shape))} instead of {_sides(shape)}"
            for key, shape in wanted.items()
            if key in state and state[key].shape != shape
        ),
    )


def _named_in(checkpoint: Checkpoint) -> Architecture | None:
    """What the file calls its own architecture, as training scripts do, if its weights fit that."""
    settings = mappings(checkpoint.extras)
    names = {mapping[key] for mapping in settings for key in NAMED_BY if isinstance(mapping.get(key), str)}
    for name in islice((name for name in sorted(names) if len(name) <= LONGEST_NAME), MAX_NAMED):
        for known in filter(is_architecture, (name, f"{TIMM}{name}")):
            with suppress(UsageError):  # one without a head
                arch = architecture(known)
                if not misfit(arch, _renamed(arch, checkpoint.state)):
                    return arch
    return None


def _likely(state: Mapping[str, Tensor]) -> Iterable[Architecture]:
    """Those to build first, which saves most others: their head and the root of a stage are in the file."""
    roots = _firsts(state)
    return [
        arch for arch in ARCHITECTURES.values() if _weight(arch) in state and roots & _firsts(arch.stages)
    ]


def _registered(state: Mapping[str, Tensor]) -> Iterable[Architecture]:
    """All whose head is in the file, without which none fits."""
    return [arch for arch in ARCHITECTURES.values() if _weight(arch) in _renamed(arch, state)]


def _timms(state: Mapping[str, Tensor]) -> Iterable[Architecture]:
    found = []
    for name in timm_names(_shapes_of(state)):
        with suppress(UsageError):  # the index may know networks that the installed timm doesn't
            found.append(architecture(name))
    return found


@cache
def _renames(arch: Architecture) -> list[tuple[re.Pattern[str], str]]:
    """The architecture's own, and a head that was wrapped in an `nn.Sequential`, with a dropout say."""
    head = (rf"^{re.escape(arch.head)}\.\d+\.(weight|bias)$", rf"{arch.head}.\1")
    return [(re.compile(pattern), replacement) for pattern, replacement in (*arch.renames, head)]


def _renamed(arch: Architecture, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state by the architecture's own names; as it was where two entries would get one name."""
    renamed: dict[str, Tensor] = {}
    renames = _renames(arch)
    for name, tensor in state.items():
        for pattern, replacement in renames:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed if len(renamed) == len(state) else state


def _shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _wanted(arch: Architecture, state: Mapping[str, Tensor]) -> Shapes:
    """The shapes of `arch` with the options and the number of classes of `state`."""
    count = _class_count(arch, state)
    heads = {f"{head}.{kind}" for head in (arch.head, *arch.aux_heads) for kind in ("weight", "bias")}
    built = _built_shapes(arch, tuple(sorted(arch.options(_shapes_of(state)).items())))
    return {name: (count, *shape[1:]) if name in heads else shape for name, shape in built.items()}


@cache
def _built_shapes(arch: Architecture, options: tuple[tuple[str, Any], ...]) -> Shapes:
    with torch.device("meta"), Undrawn(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of widths of zero, which a damaged file may have
        return _shapes_of(arch.build(2, **dict(options)).state_dict())


def _is_unused(arch: Architecture, name: str) -> bool:
    return bool(arch.unused and re.match(arch.unused, name))


def _class_count(arch: Architecture, state: Mapping[str, Tensor]) -> int:
    weight = state.get(_weight(arch))
    return weight.shape[0] if weight is not None and weight.ndim and weight.shape[0] else 2


def _weight(arch: Architecture) -> str:
    return f"{arch.head}.weight"


def _likeness(arch: Architecture, state: Mapping[str, Tensor]) -> float:
    """The part of all entries (name and shape) that `arch` and `state` share."""
    state = _renamed(arch, state)
    wanted, given = set(_wanted(arch, state).items()), set(_shapes_of(state).items())
    return len(wanted & given) / len(wanted | given)


def _foreign(state: Mapping[str, Tensor]) -> str:
    """Which names kept a prefix of others from being taken off, if any did."""
    lacking = {prefix: tuple(name for name in state if not name.startswith(prefix)) for prefix in PREFIXES}
    prefix = min(lacking, key=lambda prefix: len(lacking[prefix]))
    if len(lacking[prefix]) == len(state):
        return ""
    return f"; {prefix!r} stays on, because these names lack it: {_shortened(lacking[prefix])}"


def _weights(checkpoint: Checkpoint, name: str, stored: Tensor | None, like: Tensor) -> Tensor:
    """One tensor as the network needs it: an own, contiguous, finite copy; what is floating, in float32."""
    if stored is None:  # a counter
        return torch.zeros((), dtype=torch.int64)
    kind = torch.float32 if like.is_floating_point() else like.dtype
    if stored.is_complex() or (like.is_floating_point() and not stored.is_floating_point()):
        raise refusal(checkpoint.path, f"{name} holds {stored.dtype}, not floating-point weights")
    try:
        tensor = stored.to(kind, copy=True, memory_format=torch.contiguous_format)
    except (NotImplementedError, RuntimeError) as error:
        raise refusal(checkpoint.path, f"{name} holds {stored.dtype}, which torch cannot convert") from error
    if not _is_finite(tensor):
        raise refusal(checkpoint.path, f"{name} holds NaN or infinite weights; use an earlier checkpoint")
    if name.endswith("running_var") and (tensor < 0).any():
        raise refusal(checkpoint.path, f"{name} holds negative variances; use an earlier checkpoint")
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """NaN and infinities carry over into the sum, which takes a tenth of the time of a look at each."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _entry(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} ({_sides(shape)})"


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _shortened(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
