"""The autograd graph of a score: which nodes its gradient crosses, and where that gradient ends.

A gradient of zero and no gradient are different things. Behind a rounding step autograd hands on zeros,
behind `no_grad` or `detach` nothing: the score may depend on the image, and no gradient says how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

_ENDS = re.compile(r"^(Round|Floor|Ceil|Trunc|Sign|Sgn|Fill|Zero|Bernoulli)Backward\d*$")
_NATIVE_RECTIFIERS = re.compile(
    r"(Relu|Silu|Gelu|Hardswish|Elu|Mish|Softplus)\w*Backward|DifferentiableGraph"
)
_CUTS = re.compile(
    r"^(Clamp|ClampMin|ClampMax|Clip|Maximum|Minimum|Threshold|Hardtanh|IndexPut|MaskedScatter|Max|Amax)"
    r"Backward\d*$"
)
_PASSES_ON = re.compile(
    r"^(View|Reshape|UnsafeView|Squeeze|Unsqueeze|T|Transpose|ToCopy|Clone|Alias)Backward\d*$"
)
_PROBABILITIES = {
    "SigmoidBackward0": "sigmoid",
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log_softmax",
}
_TORCHVISION = "GeneratedBackwardFor_torchvision_"  # deformable convolutions, RoI poolings
NOTICEABLE = 1e-4  # a cut by less is a guard against dividing by zero, not a rectifier

Following = Callable[[Node], Iterable[Node | None]]


def all_inputs(node: Node) -> Iterable[Node | None]:
    """The nodes that autograd hands a node's gradient on to."""
    return [following for following, _ in node.next_functions]


def node_of(tensor: Tensor) -> Node | None:
    """The node that a tensor's gradient arrives at; None where it has none.

    Example:
        >>> node_of(torch.ones(1)) is None, node_of(torch.ones(1, requires_grad=True).exp()).name()
        (True, 'ExpBackward0')
    """
    return get_gradient_edge(tensor).node if tensor.requires_grad else None


class Reach:
    """The nodes that a score's gradient reaches, and of these the ones on a way to a given end."""

    def __init__(self, score: Tensor, following: Following = all_inputs) -> None:
        start = node_of(score)
        self._parents: dict[Node, list[Node]] = {} if start is None else {start: []}
        waiting = list(self._parents)
        while waiting:
            node = waiting.pop()
            if _ENDS.match(node.name()) or _rounds(node):
                continue
            for after in following(node):
                if after is None:
                    continue
                if after not in self._parents:
                    self._parents[after] = []
                    waiting.append(after)
                self._parents[after].append(node)

    def __contains__(self, node: object) -> bool:
        return node in self._parents

    def between(self, end: Node | None) -> set[Node]:
        """Return the nodes on the ways from the score to `end`; none where no way leads there."""
        found: set[Node] = set()
        waiting = [end] if end is not None and end in self._parents else []
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += self._parents[node]
        return found


def _rounds(node: Node) -> bool:
    """Whether a division rounds its result."""
    return node.name().startswith("DivBackward") and bool(getattr(node, "_saved_rounding_mode", None))


def hidden_rectifiers(nodes: Iterable[Node], ours: str) -> list[str]:
    """Return the names of the nodes that may be rectifiers and did not go through the router.

    These are native rectifiers that a scripted function called, and custom `autograd.Function`s other than
    those of the package `ours` and torch's own for module hooks.
    """
    names = {
        type(node).__name__
        for node in nodes
        if _NATIVE_RECTIFIERS.search(node.name())
        or (isinstance(node, torch.autograd.function.BackwardCFunction) and not _is_known(node, ours))
    }
    return sorted(names)


def _is_known(node: Any, ours: str) -> bool:
    """Whether a custom node is this package's or a module hook's; a network's own may bear the same name."""
    module: str = node._forward_cls.__module__
    torchs = module == "torch.nn.modules._functions"
    return torchs or module.rpartition(".")[0] == ours or node.name().startswith(_TORCHVISION)


def cuts(nodes: Iterable[Node]) -> list[str]:
    """Return the names of the nodes that cut off values as a rectifier does: clamps, maxima with a number."""
    return sorted(
        {_function_name(node) for node in nodes if _CUTS.match(node.name()) and _cuts_something(node)}
    )


def _function_name(node: Node) -> str:
    bare = re.sub(r"Backward\d*$", "", node.name())
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower()


def _cuts_something(node: Any) -> bool:
    """Whether a cut moved a value noticeably; nothing says that a threshold or hardtanh did not."""
    if node.name().startswith(("Maximum", "Minimum")):
        return _exceeds_a_number(node)
    if node.name().startswith(("Max", "Amax")) and "Scatter" not in node.name():
        return _chooses_among_numbers(node)
    if node.name().startswith("IndexPut"):
        return any(index is not None and index.dtype == torch.bool for index in node._saved_indices)
    values, low, high = (getattr(node, f"_saved_{name}", None) for name in ("self", "min", "max"))
    if values is None or (low is None and high is None):
        return True
    below = low is not None and bool((low - values > NOTICEABLE).any())
    return below or (high is not None and bool((values - high > NOTICEABLE).any()))


def _chooses_among_numbers(node: Any) -> bool:
    """Whether a maximum over a side took from a stack of which a part doesn't depend on the image."""
    before = node.next_functions[0][0]
    while before is not None and _PASSES_ON.match(before.name()):
        before = before.next_functions[0][0]
    stacked = before is not None and before.name().startswith(("Stack", "Cat"))
    return stacked and None in list(all_inputs(before))


def _exceeds_a_number(node: Any) -> bool:
    """Whether a maximum or minimum took what doesn't depend on the image; of two that do, one wins."""
    inputs = list(all_inputs(node))
    if None not in inputs:
        return False
    one, other = node._saved_self, node._saved_other
    values, bound = (one, other) if inputs[1] is None else (other, one)
    beyond = bound - values if node.name().startswith("Maximum") else values - bound
    return bool((beyond > NOTICEABLE).any())


def probability_of(output: object) -> str | None:
    """Return `sigmoid`, `softmax` or `log_softmax` where that gave a network's output, reshaped or not.

    Example:
        >>> probability_of(torch.ones(2, 1, requires_grad=True).sigmoid().squeeze(1))
        'sigmoid'
    """
    node = node_of(output) if isinstance(output, Tensor) else None
    while node is not None and _PASSES_ON.match(node.name()):
        node = node.next_functions[0][0]
    return None if node is None else _PROBABILITIES.get(node.name())
