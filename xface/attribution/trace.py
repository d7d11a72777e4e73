"""One forward pass and the few backward passes that all requested methods share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from xface.attribution.graph import HALF, Reach, hidden_rectifiers, is_doubtful, node_of, probability_of
from xface.attribution.guard import set_to
from xface.attribution.handwritten import varying_inputs
from xface.attribution.probes import probed
from xface.attribution.rectifiers import Router, rectifiers_among
from xface.attribution.rules import RULES
from xface.attribution.targets import Target, Targets, class_scores, resolve
from xface.attribution.unrouted import unrouted
from xface.errors import AttributionError, UnknownNameError, XFaceError
from xface.feature_maps.grids import Grid, check_shape
from xface.feature_maps.layouts import is_known, layouts, module_at
from xface.feature_maps.provenance import Provenance

PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Needs:
    """What the requested methods read: input gradients by rule, layers, and whether the layers' gradients."""

    rules: frozenset[str] = frozenset()
    layers: tuple[str, ...] = ()
    layer_gradients: bool = False

    @property
    def gradients(self) -> bool:
        """Whether any gradient is asked for."""
        return bool(self.rules) or self.layer_gradients


@dataclass(frozen=True)
class Trace:
    """The tensors of one pass, all detached: what a method may read.

    `images` (N, C, H, W); `output` the network's raw output; `activations[layer]` and
    `layer_gradients[layer]` (N, K, h, w); `input_gradients[rule]` (N, C, H, W); `rectifiers` the names of
    the rectifiers that the gradient crossed, `unrouted` those of functions on its way that may be rectifiers
    and kept their true gradient; `undefined[rule]` why this network has no pass under that rule. `ends` says
    that a gradient may have been lost on its way, `notes` what else is to be known of the maps.
    """

    model: nn.Module
    images: Tensor
    output: Tensor
    target: Target
    activations: dict[str, Tensor]
    layer_gradients: dict[str, Tensor]
    input_gradients: dict[str, Tensor]
    rectifiers: frozenset[str]
    unrouted: tuple[str, ...]
    undefined: dict[str, str]
    ends: bool
    notes: tuple[str, ...]

    def has_finite_output(self) -> list[bool]:
        """Return for each image whether all its outputs are finite."""
        return class_scores(self.output, len(self.images)).isfinite().all(dim=1).tolist()

    def rule_of(self, rule: str) -> str:
        """Return `published` if the pass under `rule` used published formulas alone.

        Else `extended`, or `partial` where functions that may be rectifiers kept their true gradient.
        """
        if rule == "plain":
            return "published"
        if self.unrouted:
            return "partial"
        return "published" if self.rectifiers <= {"relu"} else "extended"


@dataclass
class _Taps:
    """Forward hooks that note where each tapped layer's gradient arrives, and copy its output.

    The network keeps using the tensor that it made: whatever it does with it, the gradient that arrives
    at the tensor's node is the total derivative. `certain` are the layers whose output surely lies as
    (N, K, h, w), where that isn't known from an earlier call.
    """

    model: nn.Module
    images: Tensor
    router: Router
    provenance: Provenance | None
    outputs: dict[str, Tensor] = field(default_factory=dict)
    edges: dict[str, GradientEdge] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)
    views: list[tuple[str, Tensor, int]] = field(default_factory=list)
    thread: int = field(default_factory=threading.get_ident)

    def keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() != self.thread:
            return  # the caller's own forward pass, or another explanation's
        if name in self.outputs:
            raise AttributionError(
                f"layer {name!r} runs more than once in a forward pass, so it has no single activation; "
                "choose the block around it"
            )
        with torch._C.DisableTorchFunction():
            check_shape(name, output, len(self.images))
            if self.provenance is not None and self.provenance.holds(output):
                self.certain.add(name)
            self.outputs[name] = output.detach().clone()  # later calls may write into the output
            if output.requires_grad:
                self.edges[name] = get_gradient_edge(output)
                self.router.shortcuts.keep_whole(output)
            if output._base is not None:
                self.views.append((name, output, output._version))

    def check(self, layers: Sequence[str]) -> None:
        """Raise AttributionError for a layer that was not reached, or is a view of what was overwritten."""
        for name in layers:
            if name not in self.outputs:
                raise AttributionError(
                    f"layer {name!r} takes no part in the forward pass; choose another layer"
                )
        for name, tensor, version in self.views:
            if tensor._version != version:
                raise AttributionError(
                    f"layer {name!r} shares its output with a tensor that is overwritten later; "
                    "choose the block around it"
                )

    def grids(self) -> dict[str, Grid]:
        """Return how each layer's output, and its gradient, is read as (N, K, h, w)."""
        return layouts(self.model, self.outputs, self.certain, self.images)

    @contextmanager
    def on(self, layers: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            for name in layers:
                module = module_at(self.model, name)
                if module is None:
                    known = [n for n, _ in self.model.named_modules(remove_duplicate=False) if n]
                    raise UnknownNameError("layer", name, known)
                if any(isinstance(m, torch.jit.ScriptModule) for m in (self.model, module)):
                    raise AttributionError(
                        f"layer {name!r} is scripted, and such layers cannot be tapped; pass the network "
                        "that it was made from"
                    )
                stack.enter_context(_removing(module.register_forward_hook(partial(self.keep, name))))
            yield


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class _Forward:
    """One forward pass: its input, its output, and what was noted on the way."""

    leaf: Tensor
    output: Tensor
    taps: _Taps
    router: Router


def trace(model: nn.Module, images: Tensor, targets: Targets, needs: Needs) -> Trace:
    """Run the network once forward, and once backward for each rule that `needs` names.

    Rules that are undefined (no rectifier) are left out and noted. Call it inside `guard.untouched(model)`.
    Raises AttributionError where a layer has no feature map or isn't reached, the score has no gradient, or
    the network fails on these images; UnknownNameError for a layer that isn't there.
    """
    try:
        return _traced(model, images, targets, needs)
    except _OverwrittenError:
        # Trainable weights make autograd keep more tensors, which a network may overwrite.
        with set_to(model.parameters(), "requires_grad", False):
            return _traced(model, images, targets, needs)


def _traced(model: nn.Module, images: Tensor, targets: Targets, needs: Needs) -> Trace:
    run = _forward(model, images, needs, shortcuts=True)
    if run.router.shortcuts.doubtful:
        run = _forward(model, images, needs, shortcuts=False)
    kind = probability_of(run.output)
    with explaining_errors(images):
        grids = run.taps.grids()
        target = resolve(targets, run.output, len(images), probability=kind == "sigmoid")
        score = target.scores(run.output).sum()
    end = node_of(run.leaf)
    undefined, nodes = _undefined(score, end, needs.rules - {"plain"})
    notes = _on_outputs(kind, run.output)
    if needs.gradients:
        reach = _checked_reach(score, end, run.taps, needs)
        notes += _on_precision(reach, run.leaf)
    defined = replace(needs, rules=needs.rules - undefined.keys())
    kept = unrouted(nodes)  # before a backward pass frees what the nodes keep
    if nodes and not undefined:
        kept = sorted({*kept, *probed(model, images, partial(_scored, model, needs))})
    inputs, layers, copies = _backward(score, run, defined)
    undefined |= copies
    return Trace(
        model=model,
        images=run.leaf.detach(),
        output=run.output.detach(),
        target=target,
        activations={name: grids[name].read(tensor) for name, tensor in run.taps.outputs.items()},
        layer_gradients={name: grids[name].read(tensor) for name, tensor in layers.items()},
        input_gradients=inputs,
        rectifiers=rectifiers_among(nodes),
        unrouted=tuple(kept),
        undefined=undefined,
        ends=run.router.ends,
        notes=notes,
    )


def _scored(model: nn.Module, needs: Needs, image: Tensor) -> tuple[Tensor, Tensor]:
    """Run the network on an image (1, C, H, W); what the image became, and the sum of its scores' squares."""
    run = _forward(model, image, replace(needs, layers=()), shortcuts=False)
    return run.leaf, class_scores(run.output, 1).square().sum()


def _forward(model: nn.Module, images: Tensor, needs: Needs, shortcuts: bool) -> _Forward:
    leaf = images.detach().requires_grad_(needs.gradients)
    router = Router(routes=bool(needs.rules), shortcuts=shortcuts)
    followed = needs.layers and not is_known(model, needs.layers, images)
    provenance = Provenance(leaf) if followed else None
    taps = _Taps(model, leaf, router, provenance)
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(needs.gradients))
        for context in (
            taps.on(needs.layers),
            router,
            provenance or nullcontext(),
            explaining_errors(images),
        ):
            stack.enter_context(context)
        # A copy: a network whose first call works in place must not write into the caller's images.
        output = model(leaf.clone())
    taps.check(needs.layers)
    return _Forward(leaf, output, taps, router)


PROBABILITY = (
    "its probability is explained, whose gradient vanishes where it is near 0 or 1; a network that returns "
    "logits is explained better"
)


def _on_outputs(kind: str | None, output: Tensor) -> tuple[str, ...]:
    """A note where a probability is explained, or may be."""
    if is_doubtful(output):
        single = "the network's single output lies in [0, 1] here"
        if kind is None:
            return (f"{single}, and is read as a logit; if it is a probability, name the class to explain",)
        return (f"{single}: {PROBABILITY}; if it is none, name the class to explain",)
    return () if kind is None else (f"the network ends in {kind}: {PROBABILITY}",)


def _on_precision(reach: Reach, images: Tensor) -> tuple[str, ...]:
    """A note where a network computes in fewer digits than its images have."""
    found = [] if images.dtype in HALF else reach.half_precision()
    return tuple(
        f"a part of the network computes in {name} (autocast in its forward pass?), and the maps are off by "
        "some percent; take that out"
        for name in found
    )


LOST = (
    "its forward pass uses torch.no_grad or inference_mode, detaches, rounds or quantises on the way, or the "
    "score doesn't depend on it"
)


def _checked_reach(score: Tensor, end: Any, taps: _Taps, needs: Needs) -> Reach:
    """What the score's gradient reaches; AttributionError where that isn't the image, or a layer."""
    reach = Reach(score) if score.requires_grad else None
    if reach is None or (needs.rules and end not in reach):
        raise AttributionError(
            f"the network's score has no gradient that reaches the image: {LOST}; use occlusion or scorecam, "
            "or take that out"
        )
    for name in needs.layers if needs.layer_gradients else ():
        if name not in taps.edges or taps.edges[name].node not in reach:
            raise AttributionError(
                f"the score's gradient does not reach layer {name!r}: {LOST}; choose another layer"
            )
    return reach


def _undefined(score: Tensor, end: Any, rules: frozenset[str]) -> tuple[dict[str, str], set[Any]]:
    """Why the network has no pass under each of these rules, and the nodes that they are applied along."""
    if not rules or not score.requires_grad:
        return {}, set()
    nodes = Reach(score, varying_inputs).between(end)
    if hidden := hidden_rectifiers(nodes, PACKAGE):
        reason = (
            f"{', '.join(hidden)} may be rectifiers, but only their gradient can be seen; "
            "call torch.nn.functional's rectifiers instead, unscripted and in the same thread"
        )
    elif nodes and not rectifiers_among(nodes):
        reason = (
            "no rectifier that xface knows lies between its score and the image; use vanilla, gradcam or "
            "integrated_gradients"
        )
    else:
        return {}, nodes
    return dict.fromkeys(rules, reason), nodes


def _backward(
    score: Tensor, run: _Forward, needs: Needs
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """Return the input's gradient by rule, the layers' true gradients, and the rules that changed nothing."""
    by_layer = run.taps.edges if needs.layer_gradients else {}
    passes: list[tuple[str, list[Any]]] = [(rule, [run.leaf]) for rule in RULES if rule in needs.rules]
    if by_layer and "plain" not in needs.rules:
        passes.insert(0, ("plain", []))
    inputs: dict[str, Tensor] = {}
    layers: dict[str, Tensor] = {}
    copies: dict[str, str] = {}
    for index, (rule, wanted) in enumerate(passes):
        run.router.rule, run.router.altered = RULES[rule], False
        variables = wanted + (list(by_layer.values()) if rule == "plain" else [])
        with explaining_errors(run.leaf):
            gradients = _gradients(score, variables, index < len(passes) - 1, apart=run.router.hooked)
        if wanted:
            inputs[rule] = _arrived(gradients.pop(0), "the image", "use occlusion or scorecam")
        if rule == "plain":
            for name, gradient in zip(by_layer, gradients, strict=True):
                layers[name] = _arrived(gradient, f"layer {name!r}", "choose another layer")
        elif _is_copy(inputs[rule], inputs.get("plain"), run.router.altered):
            copies[rule] = "its map would be that of vanilla: no rectifier on the way changes the gradient"
            del inputs[rule]
    return inputs, layers, copies


def _gradients(score: Tensor, variables: list[Any], retain: bool, apart: bool) -> list[Tensor | None]:
    """Return the score's gradients, each from its own pass where tensors bear hooks.

    Beside others, autograd gives a tensor's gradient before its hooks; alone, after them as `.grad` has it.
    """
    if not apart:
        return list(torch.autograd.grad(score, variables, retain_graph=retain, allow_unused=True))
    last = len(variables) - 1
    return [
        torch.autograd.grad(score, [variable], retain_graph=retain or i < last, allow_unused=True)[0]
        for i, variable in enumerate(variables)
    ]


def _arrived(gradient: Tensor | None, end: str, advice: str) -> Tensor:
    """Return a gradient; where a node on its way handed none on, it isn't 0 but lost."""
    if gradient is None:
        raise AttributionError(f"the score's gradient does not reach {end}: {LOST}; {advice}")
    return gradient


def _is_copy(gradient: Tensor, plain: Tensor | None, altered: bool) -> bool:
    """Whether a rule gave the plain gradient again; one that is all zero says nothing of that."""
    same = not altered or (plain is not None and torch.equal(gradient, plain))
    return same and bool(gradient.any())


class _OverwrittenError(AttributionError):
    """A tensor that a gradient needs was overwritten."""


@contextmanager
def explaining_errors(images: Tensor) -> Iterator[None]:
    """Turn what a network raises on images (N, C, H, W) into AttributionError; out of memory passes."""
    try:
        yield
    except (XFaceError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever code of others raises
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "inplace operation" in str(error) or "in-place" in str(error):
            raise _OverwrittenError(
                "the network overwrites a tensor that its gradient needs, which works in prediction only; "
                f"replace that in-place call ({first.partition('. ')[0]})"
            ) from error
        raise AttributionError(
            f"the network fails on images of shape {tuple(images.shape)}, {images.dtype}: "
            f"{type(error).__name__}: {first[:300]}; give what it was trained on"
        ) from error
