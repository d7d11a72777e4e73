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
_PASSES_ON = re.compile(
    r"^(View|Reshape|UnsafeView|Squeeze|Unsqueeze|T|Transpose|ToCopy|Clone|Alias)Backward\d*$"
)
_PROBABILITIES = {
    "SigmoidBackward0": "sigmoid",
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log_softmax",
}
_SCALES = re.compile(r"^(Add|Sub|Rsub|Mul|Div|Neg)Backward\d*$")
_LAYER = re.compile(r"mm|Conv|Linear|AccumulateGrad|Norm", re.IGNORECASE)
_BOUNDING = re.compile(
    r"^(Sigmoid|Softmax|LogSoftmax|Hardsigmoid|LogSigmoid|Tanh|Exp|Expm1|Erf|Erfc|Atan|Abs)Backward"
)
_TORCHVISION = "GeneratedBackwardFor_torchvision_"  # deformable convolutions, RoI poolings

HALF = {torch.float16, torch.bfloat16}

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

    def half_precision(self) -> list[str]:
        """Return which half-precision types some of its nodes' results have, by name."""
        found = {meta.dtype for node in self._parents for meta in getattr(node, "_input_metadata", ())}
        return sorted(str(dtype).removeprefix("torch.") for dtype in found & HALF)

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


def probability_of(output: object) -> str | None:
    """Return `sigmoid`, `softmax` or `log_softmax` where that gave a network's output, reshaped or not.

    Where other functions follow it, such as a clamp, or it is put together by hand, an output whose values
    all lie in [0, 1] is `sigmoid` too, with several columns that sum to 1 `softmax`.

    Example:
        >>> probability_of(torch.ones(2, 1, requires_grad=True).sigmoid().squeeze(1))
        'sigmoid'
        >>> probability_of(torch.ones(2, 1, requires_grad=True).sigmoid().clamp(0.01, 0.99))
        'sigmoid'
    """
    node = _last_node(output)
    if node is None or not isinstance(output, Tensor):
        return None
    if node.name() in _PROBABILITIES:
        return _PROBABILITIES[node.name()]
    if not _lies_in_0_to_1(output) or node.name().startswith("Tanh") or not _is_bent(node):
        return None
    if _is_single(output):
        return "sigmoid"
    sums = output.detach().sum(1)
    return "softmax" if torch.allclose(sums, sums.new_ones(()), atol=1e-3) else None


def is_doubtful(output: object) -> bool:
    """Whether a single output for each image may be a logit or a probability.

    It lies in [0, 1], and comes from neither a sigmoid nor a layer: a cosine, a clamped or a rectified logit.

    Example:
        >>> z = torch.ones(2, 1, requires_grad=True)
        >>> is_doubtful(z.clamp(0, 1)), is_doubtful(z.sigmoid())
        (True, False)
    """
    node = _last_node(output)
    while node is not None and _SCALES.match(node.name()) and len(inputs := _varying(node)) == 1:
        node = inputs[0]
    if node is None or not isinstance(output, Tensor):
        return False
    is_certain = node.name() in _PROBABILITIES or _LAYER.search(node.name())
    return not is_certain and _is_single(output) and _lies_in_0_to_1(output)


def _varying(node: Node) -> list[Node]:
    """What a node's gradient goes on to, weights left out."""
    inputs = [following for following, _ in node.next_functions if following is not None]
    return [following for following in inputs if not following.name().endswith("AccumulateGrad")]


def _last_node(output: object) -> Node | None:
    """The node that gave an output, before it was reshaped."""
    node = node_of(output) if isinstance(output, Tensor) else None
    while node is not None and _PASSES_ON.match(node.name()):
        node = node.next_functions[0][0]
    return node


def _is_single(output: Tensor) -> bool:
    return output.ndim < 2 or output.shape[1] == 1


def _lies_in_0_to_1(output: Tensor) -> bool:
    if output.layout != torch.strided or output.is_nested or output.is_complex():
        return False
    values = output.detach()
    return bool(((values >= 0) & (values <= 1)).all())


def _is_bent(node: Node) -> bool:
    """Whether a function that bounds its values lies between an output and the last layer with weights."""
    waiting: list[Node | None] = [node]
    seen: set[Node] = set()
    while waiting:
        one = waiting.pop()
        if one is None or one in seen or _LAYER.search(one.name()):
            continue
        routed: Any = getattr(one, "unit", None)  # a softplus comes through the router
        if _BOUNDING.match(one.name()) or getattr(routed, "name", "") == "softplus":
            return True
        seen.add(one)
        waiting += [following for following, _ in one.next_functions]
    return False
