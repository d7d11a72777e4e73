"""One forward pass and the few backward passes that all requested methods share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xface.attribution.rectifiers import Router, hidden_rectifiers
from xface.attribution.rules import RULES
from xface.attribution.targets import Target, Targets, class_scores, resolve
from xface.errors import AttributionError, UnknownNameError
from xface.grids import Grid, check_shape
from xface.layouts import layouts
from xface.provenance import Provenance


@dataclass(frozen=True)
class Needs:
    """What the requested methods read: input gradients by rule, layers, and whether the layers' gradients."""

    rules: frozenset[str] = frozenset()
    layers: tuple[str, ...] = ()
    layer_gradients: bool = False


@dataclass(frozen=True)
class Trace:
    """The tensors of one pass, all detached: what a method may read.

    `images` (N, C, H, W); `output` the network's raw output; `activations[layer]` and
    `layer_gradients[layer]` (N, K, h, w); `input_gradients[rule]` (N, C, H, W); `rectifiers` the names of
    the rectifiers that the gradient crossed; `undefined[rule]` why this network has no pass under that rule.
    """

    model: nn.Module
    images: Tensor
    output: Tensor
    target: Target
    activations: dict[str, Tensor]
    layer_gradients: dict[str, Tensor]
    input_gradients: dict[str, Tensor]
    rectifiers: frozenset[str]
    undefined: dict[str, str]

    def has_finite_output(self) -> list[bool]:
        """Return for each image whether all its outputs are finite."""
        return class_scores(self.output, len(self.images)).isfinite().all(dim=1).tolist()

    def rule_of(self, rule: str) -> str:
        """Return `published` if the pass under `rule` used published formulas alone, else `extended`."""
        return "published" if rule == "plain" or self.rectifiers <= {"relu"} else "extended"


@dataclass
class _Taps:
    """Forward hooks that keep each tapped layer's output where later in-place calls cannot change it.

    `certain` are the layers whose output surely lies as (N, K, h, w).
    """

    model: nn.Module
    images: Tensor
    provenance: Provenance
    outputs: dict[str, Tensor] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)
    watched: list[tuple[str, Tensor, int]] = field(default_factory=list)

    def keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> Tensor:
        if name in self.outputs:
            raise AttributionError(
                f"layer {name!r} runs more than once in a forward pass, so it has no single activation; "
                "choose the block around it"
            )
        check_shape(name, output, len(self.images))
        if self.provenance.holds(output):
            self.certain.add(name)
        # Where nothing before needs a gradient, the graph starts here: what lies below costs no backward.
        self.outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
        handed_on = self.outputs[name].clone()
        # The network may hold the tensor under another name: an Identity's input, say.
        self.watched.append((name, output, output._version))
        if any(output is given for given in inputs):
            self.watched.append((name, handed_on, handed_on._version))
        return handed_on

    def check(self, layers: Sequence[str]) -> None:
        """Raise AttributionError for a layer that was not reached, or whose output the network overwrote."""
        for name in layers:
            if name not in self.outputs:
                raise AttributionError(
                    f"layer {name!r} takes no part in the forward pass; choose another layer"
                )
        for name, tensor, version in self.watched:
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
        modules = dict(self.model.named_modules(remove_duplicate=False))
        with ExitStack() as stack:
            for name in layers:
                if name not in modules:
                    raise UnknownNameError("layer", name, [n for n in modules if n])
                stack.enter_context(_removing(modules[name].register_forward_hook(partial(self.keep, name))))
            yield


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def trace(model: nn.Module, images: Tensor, targets: Targets, needs: Needs) -> Trace:
    """Run the network once forward, and once backward for each rule that `needs` names.

    Rules that are undefined (no rectifier) are left out and noted. Call it inside `guard.untouched(model)`.
    Raises AttributionError where a layer has no feature map or isn't reached, or the score has no gradient;
    UnknownNameError for a layer that isn't there.
    """
    leaf = images.detach().requires_grad_(bool(needs.rules))
    provenance, router = Provenance(leaf), Router()
    taps, routing = _Taps(model, leaf, provenance), router if needs.rules else nullcontext()
    following = provenance if needs.layers else nullcontext()
    with taps.on(needs.layers), routing, following, _explaining_inplace_errors():
        # A copy: a network whose first call works in place must not write into the caller's images.
        output = model(leaf.clone())
    taps.check(needs.layers)
    target = resolve(targets, output, len(leaf))
    score = target.scores(output).sum()
    _check_gradients(score, needs)
    undefined = _undefined(score, needs.rules - {"plain"}, router.seen)
    defined = replace(needs, rules=needs.rules - undefined.keys())
    inputs, layers = _backward(score, leaf, taps.outputs, router, defined)
    grids = taps.grids()
    return Trace(
        model=model,
        images=leaf.detach(),
        output=output.detach(),
        target=target,
        activations={name: grids[name].read(tapped.detach()) for name, tapped in taps.outputs.items()},
        layer_gradients={name: grids[name].read(tensor) for name, tensor in layers.items()},
        input_gradients=inputs,
        rectifiers=frozenset(router.seen),
        undefined=undefined,
    )


def _check_gradients(score: Tensor, needs: Needs) -> None:
    if (needs.rules or needs.layer_gradients) and not score.requires_grad:
        raise AttributionError(
            "the network's score has no gradient: its forward runs under torch.no_grad, detaches, or ignores "
            "the image; use occlusion or scorecam, or take that out"
        )


def _undefined(score: Tensor, rules: frozenset[str], seen: set[str]) -> dict[str, str]:
    """Why the network has no pass under each of these rules, for the rules of which that is so."""
    if not rules:
        return {}
    if hidden := hidden_rectifiers(score):
        reason = (
            f"{', '.join(hidden)} may be rectifiers, but only their gradient can be seen; "
            "call torch.nn.functional's rectifiers, unscripted, instead"
        )
    elif not seen:
        reason = "it calls no rectifier that xface knows; use vanilla, gradcam or integrated_gradients"
    else:
        return {}
    return dict.fromkeys(rules, reason)


def _backward(
    score: Tensor, leaf: Tensor, tapped: dict[str, Tensor], router: Router, needs: Needs
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the input's gradient by rule, and the layers' true gradients: one pass a rule."""
    by_layer = tapped if needs.layer_gradients else {}
    passes: list[tuple[str, list[Tensor]]] = [(rule, [leaf]) for rule in RULES if rule in needs.rules]
    if by_layer and "plain" not in needs.rules:
        passes.insert(0, ("plain", []))
    inputs: dict[str, Tensor] = {}
    layers: dict[str, Tensor] = {}
    for index, (rule, wanted) in enumerate(passes):
        router.rule = RULES[rule]
        variables = wanted + (list(by_layer.values()) if rule == "plain" else [])
        with _explaining_inplace_errors():
            gradients = _gradients(score, variables, retain=index < len(passes) - 1)
        if wanted:
            inputs[rule] = gradients.pop(0)
        layers.update(zip(by_layer, gradients, strict=False))
    return inputs, layers


def _gradients(score: Tensor, variables: list[Tensor], retain: bool) -> list[Tensor]:
    found = torch.autograd.grad(
        score, variables, retain_graph=retain, allow_unused=True, materialize_grads=True
    )
    return list(found)


@contextmanager
def _explaining_inplace_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        raise AttributionError(
            "the network overwrites a tensor that its gradient needs, which works in prediction only; "
            f"replace that in-place call ({str(error).partition('. ')[0]})"
        ) from error
