"""Rectifiers that neither their calls nor their nodes show, found by experiment, once for each network.

A mask may be made where no call is seen: by a scripted function, in another thread, under `torch.vmap`. And
what looks as if it mixed positions may leave each where it is: a matrix product with the identity, a Fourier
transform and back. So the first image and another one go through the network alone, and it is asked

- **which constants vary**: a mask, a condition or an index that differs between the two, and that the
  gradient takes for a constant, was computed from the image;
- **which operands depend on each other position by position**: of two tensors that are multiplied, added or
  compared, a random half of one's values is traced back to the other. A layer spreads it over all positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from xface.attribution.graph import Reach, node_of
from xface.attribution.guard import RandomState
from xface.attribution.handwritten import varying_inputs
from xface.attribution.unrouted import (
    TRIED,
    function_name,
    is_joining,
    is_selecting,
    is_straight,
    is_sum,
    origins,
)

MOST_ORIGINS = 12
LEAST_VALUES = 16
SPREAD = 1e-5  # of the largest; what a Fourier transform and back leaves elsewhere is less

CHOOSING = (
    "Mul", "Div", "Where", "MaskedFill", "MaskedScatter", "Addcmul", "Addcdiv", "Lerp", "Scatter", "IndexPut",
    "IndexFill", "IndexCopy", "IndexAdd", "CopySlices", "Maximum", "Minimum",
)  # fmt: skip
"""Functions by which a constant tensor chooses, position by position, what passes."""
TAKING = ("Index", "Gather", "Take")
"""Functions that take positions: always as many, as pooling does, or as many as the image makes."""
CONSTANTS = ("self", "other", "condition", "mask", "index", "indices", "weight", "tensor1", "tensor2")

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (1, C, H, W) -> the tensor that they become, of which a gradient is taken, and the score."""

_found: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[str, ...]]] = WeakKeyDictionary()


def probed(model: nn.Module, images: Tensor, forward: Forward) -> tuple[str, ...]:
    """Return the names of the functions that make rectifiers unseen, for images (N, C, H, W) of this size.

    A network that takes no single image has none to be found.
    """
    known = _found.setdefault(model, {})
    size = tuple(images.shape[1:])
    if size not in known:
        found: tuple[str, ...] = ()
        with suppress(Exception):
            found = _probed(images, forward)
        known[size] = found  # only now: another thread, or a call after Ctrl-C, must not find it begun
    return known[size]


def _probed(images: Tensor, forward: Forward) -> tuple[str, ...]:
    randomness = RandomState({images.device})
    leaf, score = forward(images[:1])
    randomness.restore()  # a dropout's mask is to be the same again
    _, other = forward(0.7 * images[:1].flip(-1) + 0.05)
    nodes = Reach(score, varying_inputs).between(node_of(leaf))
    varying = [node for node, twin in _twins(score, other, nodes) if _varies(node, twin)]
    return tuple(sorted({function_name(node) for node in [*varying, *_self_combinations(nodes)]}))


# Constants that vary


def _twins(score: Tensor, other: Tensor, nodes: set[Any]) -> Iterator[tuple[Node, Node]]:
    """The same node in both passes, where both took the same way."""
    waiting = [(node_of(score), node_of(other))]
    seen: set[Any] = set()
    while waiting:
        node, twin = waiting.pop()
        if node is None or twin is None or node in seen or node.name() != twin.name():
            continue
        seen.add(node)
        if node in nodes:
            yield node, twin
        pairs = zip(node.next_functions, twin.next_functions, strict=False)
        waiting += [(following, its_twin) for (following, _), (its_twin, _) in pairs]


def _varies(node: Any, twin: Any) -> bool:
    """Whether a constant of a node differs between the passes, and chooses what passes at each position."""
    chooses = node.name().startswith(CHOOSING)
    if not chooses and not node.name().startswith(TAKING):
        return False
    size = _size(node, 0)
    return any(
        one.shape != other.shape
        or (chooses and (one.numel() == size or not one.is_floating_point()) and not torch.equal(one, other))
        for one, other in zip(_constants(node), _constants(twin), strict=False)
    )


def _constants(node: Any) -> Iterator[Tensor]:
    """The tensors that a node keeps and that its gradient takes for constants."""
    for name in CONSTANTS:
        with suppress(RuntimeError):  # overwritten since
            kept = getattr(node, f"_saved_{name}", None)
            for tensor in kept if isinstance(kept, (tuple, list)) else (kept,):
                if isinstance(tensor, Tensor) and not tensor.requires_grad:
                    yield tensor


# Operands that depend on each other position by position


def _self_combinations(nodes: set[Any]) -> Iterator[Any]:
    for node in nodes:
        name = node.name()
        operands = [(n, i) for n, i in node.next_functions if n in nodes]
        if hasattr(node, "_forward_cls") or TRIED in node.metadata or is_joining(name):
            continue
        if "ScaledDotProduct" in name:
            if node._saved_key.shape[-2] == 1:  # it returns the values
                continue
            results = [((node, 0), operand) for operand in operands]
        else:
            results = [(a, b) for a in operands for b in operands if a != b and _has_positions(*a)]
        if any(_bends_with(node, one, other, nodes) for one, other in results):
            yield node


def _bends_with(node: Node, result: tuple[Any, int], operand: tuple[Any, int], nodes: set[Any]) -> bool:
    """Whether `result` is a bent function, position by position, of what `operand` comes from."""
    if _size(*result) < LEAST_VALUES:
        return False
    sums = is_sum(node.name())
    sources = [state for state in origins(operand, nodes, sums) if _size(*state) == _size(*result)]
    for near in ([s for s in sources if s == operand], [s for s in sources if s != operand][:MOST_ORIGINS]):
        for source, gradient, half in _traced_back(result, near):
            if _keeps_places(gradient, half):
                way = _between(result[0], source, nodes)
                return is_selecting(node.name()) or not all(is_straight(n, sums) for n in way)
    return False


def _traced_back(
    result: tuple[Any, int], sources: list[tuple[Any, int]]
) -> Iterator[tuple[Node, Tensor, Tensor]]:
    """Each source's gradient of a random half of a result's values, and that half, both flat."""
    sources = [source for source in sources if source != result]
    if not sources:
        return
    meta = result[0]._input_metadata[result[1]]
    dice = torch.Generator().manual_seed(0)
    shape = tuple(map(int, meta.shape))
    half = torch.rand(shape, generator=dice) < 0.5
    weights = (1 + torch.rand(shape, generator=dice)) * half
    gradients = torch.autograd.grad(
        [GradientEdge(*result)],
        [GradientEdge(*source) for source in sources],
        weights.to(meta.device, meta.dtype),
        retain_graph=True,
        allow_unused=True,
    )
    for (source, _), gradient in zip(sources, gradients, strict=True):
        if gradient is not None:
            yield source, gradient.detach().abs().flatten(), half.flatten().to(gradient.device)


def _keeps_places(gradient: Tensor, half: Tensor) -> bool:
    least = SPREAD * gradient.max()
    within, beyond = gradient[half], gradient[~half]
    return bool((within > least).sum() >= LEAST_VALUES) and not bool((beyond > least).any())


def _between(start: Node, end: Node, nodes: set[Any]) -> set[Node]:
    """The nodes on the ways from one node to another, without the latter."""
    parents: dict[Node, list[Node]] = {start: []}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        for following in varying_inputs(node) if node is not end else ():
            if following in nodes:
                if following not in parents:
                    parents[following] = []
                    waiting.append(following)
                parents[following].append(node)
    found: set[Node] = set()
    waiting = list(parents.get(end, []))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += parents[node]
    return found


def _has_positions(node: Any, result: int) -> bool:
    """Whether a result isn't a map of one position, in which a layer has no others to mix."""
    shape = node._input_metadata[result].shape
    return len(shape) != 4 or sum(side > 1 for side in shape[1:]) > 1


def _size(node: Any, result: int) -> int:
    return prod(int(side) for side in node._input_metadata[result].shape)
