"""Functions on a gradient's way that may be rectifiers and were not routed.

A rectifier need not be called by its name, nor by calls that are tried on numbers: `einsum` multiplies a
tensor with its own sigmoid, `logsumexp` over a stack of a tensor and zeros is the softplus. The autograd
graph shows what they share. A **self-combination** brings together, position by position, what comes from
one tensor by two ways, of which one bends it. A gate that a layer or a mean computes is none: these mix
positions, and what comes from behind them is another tensor.

What no list below knows may be a rectifier too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from xface.attribution.handwritten import varying_inputs

TRIED = "xface: tried"
"""On a node whose function was tried on numbers in the forward pass, and is no rectifier."""
DOUBTFUL = "xface: doubtful"
"""On one that can't be told from a rectifier."""
CHOOSING = "xface: choosing"
"""On one that takes positions which depend on the image."""

NORMED = "xface: normed"
"""On the node of a convolution that a norm's node skips: what both know it by."""

NOTICEABLE = 1e-4  # a cut by less is a guard against dividing by zero, not a rectifier


def _names(text: str) -> Callable[[str], bool]:
    pattern = re.compile(rf"^(torch::autograd::)?({'|'.join(text.split())})(Backward\w*)?$")
    return cache(lambda name: pattern.match(name) is not None)


_OURS = _names("Rectify Select")
_CUTS = _names(
    r"Clamp ClampMin ClampMax Clip Maximum Minimum Threshold Hardtanh IndexPut MaskedScatter Max Amax"
    r" Min Amin FakeQuantize\w*"
)
_STRAIGHT = _names(
    r"\w*Convolution\w* Addmm Mm Bmm Baddbmm Addbmm Addmv Mv Dot \w*AvgPool\w* Upsample\w+ GridSampler\w*"
    r" CudnnGridSampler\w* Im2Col Col2Im Unfold Fft\w+ Cumsum ReflectionPad\w+ ReplicationPad\w+"
    r" _WithGradient MaxUnpool\w* Trace Linear\w* \w*BatchNorm\w* AccumulateGrad"
)
_VIEWS = _names(
    r"View Reshape ReshapeAlias UnsafeView Squeeze Unsqueeze T Transpose Permute ToCopy Clone Alias Copy"
    r" Contiguous Expand Repeat AsStrided ViewAs\w+ Real Imag Complex NativeDropout Identity"
    r" BackwardHook\w*"
)
_PARTS = _names(
    r"Select Slice Split SplitWithSizes SafeSplit UnsafeSplit Unbind Narrow Chunk Flip Roll Diagonal"
)
_JOINS = _names("Stack Cat ConstantPadNd CopySlices SelectScatter SliceScatter")
_SUMS = _names("Add Sub Rsub Neg Sum Mean")
_LINEAR = _names(
    r"Mul Div Index Gather IndexSelect TakeAlongDim Take Scatter ScatterAdd IndexAdd IndexCopy Where"
    r" MaskedFill MaskedSelect PixelShuffle PixelUnshuffle ChannelShuffle NativeChannelShuffle Tril Triu"
    r" Addcmul Lerp"
)
_MIXING = _names(
    r"\w*Convolution\w* Addmm Mm Bmm Baddbmm Addbmm Addmv Mv Dot \w*AvgPool\w* Upsample\w+"
    r" GridSampler\w* CudnnGridSampler\w* Im2Col Col2Im Unfold Fft\w+ Cumsum ReflectionPad\w+"
    r" ReplicationPad\w+ _WithGradient \w*(Batch|Layer|Group|Instance|Rms)Norm\w* \w*Norm Linalg\w*Norm"
    r" Std Var StdMean VarMean \w*MaxPool\w* MaxUnpool\w* \w*ScaledDotProduct\w* \w*Attention\w*"
    r" Trilinear EmbeddingBag Embedding \w*Rnn\w* \w*Lstm\w* ThnnFused\w* Cdist LinalgSvd\w*"
    r" LinalgEigh\w* Prelu\w* AccumulateGrad Polar Angle Trace Linear\w*"
    r" GeneratedBackwardFor_torchvision_\w+"
)
_GATES = _names(
    r"Sigmoid Tanh Hardsigmoid Softmax SafeSoftmax LogSoftmax Glu Exp Exp2 Expm1 Erf Erfc Pow Sqrt Rsqrt"
    r" Reciprocal Abs Sin Cos Max Amax Min Amin Maximum Minimum Aminmax Round Floor Ceil Trunc Sign Sgn"
    r" Fill Zero"
)
_LISTED = (_VIEWS, _PARTS, _JOINS, _SUMS, _LINEAR, _MIXING, _GATES, _CUTS)
_SELECTING = _names(
    r"Max Amax Min Amin Aminmax Softmax LogSoftmax Logsumexp Glu \w*MaxPool\w* Maximum Minimum Where"
    r" Fmax Fmin \w*ScaledDotProduct\w*"
)
_REDUCING = _names(
    r"Max Amax Min Amin Aminmax Softmax LogSoftmax Logsumexp Glu \w*MaxPool\w* Sum Mean Prod Norm"
    r" Linalg\w*Norm"
)
_KEEPING_SIZE = _names(
    r"Max Amax Min Amin Logsumexp Sum Mean Prod Norm Linalg\w*Norm \w*AdaptiveAvgPool\w* Upsample\w+"
)


def mark(tensor: Tensor, note: str) -> None:
    """Leave a note on the node that a tensor (of any shape) came from; it goes with the graph."""
    node: Any = tensor.grad_fn
    if node is not None:
        node.metadata[note] = True


def is_marked(tensor: Tensor, note: str) -> bool:
    """Whether the node that a tensor (of any shape) came from bears a note."""
    node: Any = tensor.grad_fn
    return node is not None and note in node.metadata


def unrouted(nodes: set[Any]) -> list[str]:
    """Return the names of the functions among these nodes that may be rectifiers and have no rule."""
    return sorted({function_name(node) for node in nodes if _may_be_rectifier(node, nodes)})


def function_name(node: Node) -> str:
    """A node's function as its users call it: `masked_fill` of MaskedFillBackward0."""
    bare = re.sub(r"(WithIndices)?Backward\d*$", "", node.name()).rpartition(":")[2]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower().strip("_")


def _may_be_rectifier(node: Any, nodes: set[Any]) -> bool:
    name = node.name()
    if hasattr(node, "_forward_cls"):  # ours, and what `hidden_rectifiers` has let pass
        return False
    if DOUBTFUL in node.metadata or (_CUTS(name) and _cuts_something(node, nodes)):
        return True
    if TRIED in node.metadata:
        return False
    return not any(names(name) for names in _LISTED) or _combines_itself(node, nodes)


# Self-combinations

_JOINED = ("joined",)
State = tuple[Any, int, tuple[Any, ...]]
"""A node, which of its results, and the parts of it that were taken on the way, innermost last."""


def _combines_itself(node: Any, nodes: set[Any]) -> bool:
    """Whether a node brings together what comes from one tensor by two ways, at least one of them bent."""
    name = node.name()
    operands = [(n, i) for n, i in node.next_functions if n in nodes]
    if name.startswith("Cat") and not all(n.name().startswith("Unsqueeze") for n, _ in operands):
        return False  # a layer follows
    chooses = CHOOSING in node.metadata
    selects, numbers = chooses or _SELECTING(name), False
    if chooses or _REDUCING(name):
        operands, numbers = _stacked(node, nodes)
    if selects and numbers:
        return True
    if len(operands) < 2:
        return False
    is_sum = _SUMS(name) or name.startswith(("Stack", "Cat"))
    in_part = name.endswith("CopySlices")  # a call that writes into a part of a tensor
    ways: dict[State, bool] = {}
    for operand in operands:
        new: dict[State, bool] = {}
        for state, bent in _ways(operand, nodes, ways, is_sum):
            state = (*state[:2], ()) if in_part else state
            if state in ways and (selects or bent or ways[state]):
                return True
            new[state] = new.get(state, False) or bent
        ways = {**new, **ways}
    return False


def _ways(
    operand: tuple[Any, int], nodes: set[Any], ends: dict[State, bool], is_sum: bool
) -> Iterator[tuple[State, bool]]:
    """What an operand comes from, position by position, as far as `ends`, and whether the way there bends.

    A sum of what was rectified and what wasn't is a shortcut: there, rectifiers with a rule don't count.
    """
    seen: set[tuple[State, bool]] = set()
    waiting: list[tuple[State, bool]] = [((*operand, ()), False)]
    while waiting:
        (node, result, parts), bent = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        yield entry
        normed = getattr(node, "normed", None) or node.metadata.get(NORMED)
        if normed and not is_sum:
            yield (normed, 0, parts), bent
        if entry[0] in ends or (_mixes(node, nodes) and not (_keeps_place(node) and not is_sum)):
            continue
        bent = bent or _bends(node, is_sum)
        before = _parts_after(node, result, parts, nodes)
        for following, index in _varying_edges(node):
            if following in nodes:
                whole = node.name().endswith("CopySlices") and (following, index) == node.next_functions[0]
                waiting.append(((following, index, parts if whole else before), bent))


def origins(operand: tuple[Any, int], nodes: set[Any], is_sum: bool) -> list[tuple[Any, int]]:
    """What an operand (a node, which of its results) comes from position by position, itself first."""
    states = [state for state, _ in _ways(operand, nodes, {}, is_sum)]
    return list(dict.fromkeys((node, index) for node, index, parts in states if node in nodes and not parts))


def is_straight(node: Any, is_sum: bool) -> bool:
    """Whether a node's function is linear; in a sum, a rectifier with a rule counts as if it were."""
    return _STRAIGHT(node.name()) or (not _bends(node, is_sum) and not _MIXING(node.name()))


def is_sum(name: str) -> bool:
    """Whether a node of this name adds its operands."""
    return _SUMS(name)


def is_joining(name: str) -> bool:
    """Whether a node of this name lays its operands side by side."""
    return _JOINS(name)


def is_selecting(name: str) -> bool:
    """Whether a node of this name passes on the larger of its operands, or one that depends on them."""
    return _SELECTING(name)


def _varying_edges(node: Any) -> list[tuple[Any, int]]:
    following = set(varying_inputs(node))
    return [(n, i) for n, i in node.next_functions if n in following]


def _mixes(node: Any, nodes: set[Any]) -> bool:
    """Whether a node's result at a position depends on other positions, or on a layer's weights."""
    name = node.name()
    if name.startswith("Bmm"):  # einsum's products by element have sides of length 1
        one, other = node._saved_self, node._saved_mat2
        return bool((other.shape[1] if one is None else one.shape[2]) > 1)
    if _REDUCING(name) and not name.startswith(("Softmax", "LogSoftmax", "Glu")):
        operands, numbers = _stacked(node, nodes)
        return not operands and not numbers and not _keeps_size(node)
    return _MIXING(name) and not _keeps_size(node)


def _keeps_size(node: Any) -> bool:
    """Whether a reduction goes over sides of length 1, or a resizing changes nothing."""
    return _KEEPING_SIZE(node.name()) and _size(node, 0) == _size(*node.next_functions[0])


def _keeps_place(node: Any) -> bool:
    """Whether a layer scales and shifts each position alone: a norm, kernels of length 1."""
    name = node.name()
    if "Norm" in name and not _REDUCING(name):
        return True
    if name.startswith("Convolution"):
        return tuple(node._saved_weight.shape[1:]) == (1, 1, 1)
    return {*(getattr(node, "_saved_kernel_size", None) or (0,))} == {1}


def _bends(node: Any, is_sum: bool) -> bool:
    if _OURS(node.name()):
        return not is_sum
    if "Norm" in node.name() and _REDUCING(node.name()):
        return True
    return not any(names(node.name()) for names in (_VIEWS, _PARTS, _JOINS, _SUMS, _LINEAR, _MIXING))


def _parts_after(node: Any, result: int, parts: tuple[Any, ...], nodes: set[Any]) -> tuple[Any, ...]:
    """The parts that were taken, past one more node: a part of what was joined is one of the wholes."""
    name, last = node.name(), parts[-1] if parts else None
    if _JOINS(name):
        return (*parts, _JOINED) if last in (None, _JOINED) else parts[:-1]
    if name.startswith("Unsqueeze") and last is not None and last[1:] == (0, node._saved_dim, 0):
        return parts[:-1]
    if name.startswith("Repeat") and last not in (None, _JOINED):
        return parts[:-1]
    if name.startswith("ViewAsComplex"):
        return (*parts, (name,))
    if _PARTS(name):
        part = _part(node, result)
        turned_back = last == part and name.startswith(("Flip", "Roll"))
        return parts[:-1] if last == _JOINED or turned_back else (*parts, part)
    if _REDUCING(name) and _size(node, 0) < _size(*node.next_functions[0]) and _stacked(node, nodes)[0]:
        return (*parts, (name,))
    return parts


_BOUNDS = ("dim", "dim1", "dim2", "dims", "start", "end", "step", "offset", "split_size", "split_sizes")


def _part(node: Any, result: int) -> tuple[Any, ...]:
    name = node.name()
    if name == "RollBackward0":
        return name, tuple(node._saved_dims)
    if name == "SelectBackward0":  # a network's own function may be called Select too
        return name, result, node._saved_dim, node._saved_index
    return name, result, *(str(getattr(node, f"_saved_{key}", None)) for key in _BOUNDS)


def _stacked(node: Any, nodes: set[Any]) -> tuple[list[tuple[Any, int]], bool]:
    """The tensors that a reduction goes over, and whether numbers are among them; none where not stacked."""
    before, size = node.next_functions[0][0], _size(*node.next_functions[0])
    while before is not None and (_VIEWS(before.name()) or _is_scaled(before, nodes)):
        varying = [(n, i) for n, i in before.next_functions if n in nodes]
        if len(varying) != 1 or hasattr(before, "_forward_cls"):
            return [], False
        if _size(*varying[0]) < size:  # spread over a new side, with factors perhaps
            return [varying[0], varying[0]], False
        before = varying[0][0]
    if before is None or not _JOINS(before.name()):
        return [], False
    varying = [(n, i) for n, i in before.next_functions if n in nodes]
    return varying, len(varying) < max(2, len(before.next_functions))


def _is_scaled(node: Any, nodes: set[Any]) -> bool:
    is_one = sum(n in nodes for n, _ in node.next_functions) == 1
    return is_one and node.name().startswith(("MulB", "DivB", "AddB", "SubB", "NegB"))


def _size(node: Any, result: int) -> int:
    count = 1
    for side in node._input_metadata[result].shape:
        count *= int(side)
    return count


# Cuts


def _cuts_something(node: Any, nodes: set[Any]) -> bool:
    """Whether a cut moved a value noticeably; nothing says that a threshold or hardtanh did not."""
    name = node.name()
    if name.startswith(("Maximum", "Minimum")):
        return _exceeds_a_bound(node, nodes)
    if name.startswith(("Max", "Amax", "Min", "Amin")) and "Scatter" not in name:
        return False  # a self-combination where numbers are among its values
    if name.startswith("IndexPut"):
        return any(index is not None and index.dtype == torch.bool for index in node._saved_indices)
    values, low, high = (getattr(node, f"_saved_{name}", None) for name in ("self", "min", "max"))
    if name.startswith("FakeQuantize"):
        kept = getattr(node, "_saved_mask", None)
        return kept is None or not bool(kept.all())
    if values is None or (low is None and high is None):
        return True
    below = low is not None and bool((low - values > NOTICEABLE).any())
    return below or (high is not None and bool((values - high > NOTICEABLE).any()))


def _exceeds_a_bound(node: Any, nodes: set[Any]) -> bool:
    """Whether a maximum or minimum took a number, or a bound for many; of two maps, one wins."""
    inputs = [n for n, _ in node.next_functions]
    one, other = node._saved_self, node._saved_other
    varies = [n in nodes for n in inputs]
    if all(varies) and one.numel() == other.numel():
        return False
    is_first = varies[0] and (one.numel() >= other.numel() or not varies[1])
    values, bound = (one, other) if is_first else (other, one)
    beyond = bound - values if node.name().startswith("Maximum") else values - bound
    return bool((beyond > NOTICEABLE).any())
