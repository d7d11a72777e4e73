"""`attribute`: any methods at any layers of any network, from shared passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from xface.attribution.guard import untouched
from xface.attribution.maps import Maps, furthest, gaps, status_of
from xface.attribution.methods import METHODS, Method
from xface.attribution.precision import in_precision
from xface.attribution.scrutiny import findings
from xface.attribution.targets import Targets
from xface.attribution.trace import Needs, Trace, explaining_errors, trace
from xface.errors import AttributionError, UsageError


def core_methods() -> tuple[str, ...]:
    """The core methods that are registered by now."""
    return tuple(name for name, entry in METHODS.items() if entry.core)


CORE_METHODS = core_methods()
"""xface's own."""


def attribute(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    methods: Sequence[str] | None = CORE_METHODS,
    layers: Sequence[str] = ("layer4",),
    dtype: torch.dtype | None = None,
) -> Maps:
    """Explain a network's scores for a batch by any registered methods, at any layers.

    The network runs forward once, and backward once per rule (plain, guided, deconvnet) that the methods
    need. It is run in eval mode; its weights, modes, gradients, hooks, the images and the random state are
    left as they were, also when an exception passes through.

    Args:
        model: any network from (N, C, H, W) to logits (N, classes), or (N, 1) for one sigmoid logit.
        images: (N, C, H, W), preprocessed as the network wants them.
        targets: None (each image's predicted class), `margin` (the predicted logit less the best other),
            a class index, one index per image, or a function from raw outputs to such indices.
        methods: names from `xface methods`; None for each core method that is defined for this network and
            these layers, with the others' reasons in `undefined`.
        layers: dotted module names, for the methods that work at a layer; `layer4` is a ResNet's last stage.
        dtype: what to compute in; None for float32 where weights are in half precision, else the network's.

    Returns:
        Maps, with layer None for the methods that work at the input; `notes` say what is to be known of them.

    Raises:
        UsageError: no network or no batch of images. UnknownNameError: no such method or layer.
        TargetError: no such class, or a wrong number of targets.
        AttributionError: a named method is undefined for this network (no rectifier), a layer has no feature
            map or no gradient, or the network fails on these images.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> maps = attribute(net, torch.rand(1, 3, 8, 8), methods=("guided", "gradcam"), layers=("1",))
        >>> {key: tuple(tensor.shape) for key, tensor in maps.items()}
        {('guided', None): (1, 3, 8, 8), ('gradcam', '1'): (1, 6, 6)}
        >>> maps.rule["guided", None]
        'published'
    """
    chosen = [METHODS[name] for name in _listed(core_methods() if methods is None else methods)]
    layers = _listed(layers)
    named = methods is not None
    _check(model, images, [entry.name for entry in chosen if entry.layered and named], layers)
    network = getattr(model, "_orig_mod", model)  # torch.compile would hide the rectifiers
    undefined = _undefined_beforehand(network, chosen, layers)
    if named:
        _refuse(undefined)
    chosen = [entry for entry in chosen if entry.name not in undefined]
    with untouched(network) as randomness:
        network, images, precision = in_precision(network, images, dtype)
        needs = _needs(chosen, layers)
        passes = trace(network, images, targets, needs)
        notes = (
            *precision,
            *passes.notes,
            *findings(passes, drew=randomness.moved()),
        )
        undefined |= {entry.name: reason for entry in chosen if (reason := _undefined_in(passes, entry))}
        if named:
            _refuse(undefined)
        with explaining_errors(images):  # the sampled methods run the network again
            tensors = {
                (entry.name, layer): entry.compute(passes, layer).detach().float()
                for entry in chosen
                if entry.name not in undefined
                for layer in (layers if entry.layered else [None])
            }
    return Maps(
        tensors=tensors,
        status={key: status_of(tensor, passes.has_finite_output()) for key, tensor in tensors.items()},
        rule={key: _rule(METHODS[key[0]], passes) for key in tensors},
        output=passes.output,
        targets=passes.target.classes,
        undefined=undefined,
        notes=(*notes, *_unrouted(passes, chosen)),
    )


def _unrouted(passes: Trace, methods: list[Method]) -> tuple[str, ...]:
    names = [entry.name for entry in methods if entry.rules - {"plain"}]
    if not names or not passes.unrouted:
        return ()
    return (
        f"{', '.join(names)} are partial: {', '.join(passes.unrouted)} may be rectifiers here, and kept "
        "their true gradient",
    )


def _listed(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([names] if isinstance(names, str) else names))


def _needs(methods: list[Method], layers: list[str]) -> Needs:
    return Needs(
        rules=frozenset[str]().union(*(entry.rules for entry in methods)),
        layers=tuple(layers) if any(entry.layered for entry in methods) else (),
        layer_gradients=any(entry.layer_gradients for entry in methods),
    )


def _rule(entry: Method, passes: Trace) -> str:
    return furthest(passes.rule_of(rule) for rule in entry.rules)


def _check(model: nn.Module, images: Tensor, layered: list[str], layers: list[str]) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"attribute explains a torch.nn.Module, not a {type(model).__name__}")
    if not isinstance(images, Tensor):
        raise UsageError(
            f"images must be a float tensor (N, C, H, W), not a {type(images).__name__}; prepare pictures "
            "with Detector.prepare, or arrays with torch.from_numpy"
        )
    if images.is_nested or images.layout != torch.strided:
        raise UsageError("images must be a dense tensor (N, C, H, W), neither nested nor sparse; stack them")
    if images.is_meta or next(model.parameters(), images).is_meta:
        raise UsageError("the images or the network's weights are on the meta device, which holds no values")
    if strange := [layer for layer in layers if not isinstance(layer, str)]:
        raise UsageError(f"layers must be names of modules, not {strange[0]!r}")
    if layered and not layers:
        last = [name for name, _ in model.named_modules() if name][-6:]
        raise UsageError(
            f"{', '.join(layered)} needs layers=(...), names of modules such as {', '.join(last)}"
        )
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise UsageError(
            f"images must be a float tensor (N, C, H, W) with N > 0, not "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )


def _undefined_beforehand(model: nn.Module, methods: list[Method], layers: list[str]) -> dict[str, str]:
    """Why methods are undefined, by name, as far as that shows before the network runs."""
    layered = [entry.name for entry in methods if entry.layered and not layers]
    reasons = dict.fromkeys(layered, "no layer with a feature map is known")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        scripted = "the rectifiers of a scripted network cannot be seen; pass the network it was made from"
        reasons |= {entry.name: scripted for entry in methods if entry.rules - {"plain"}}
    return reasons


def _undefined_in(passes: Trace, entry: Method) -> str | None:
    return next((reason for rule, reason in passes.undefined.items() if rule in entry.rules), None)


def _refuse(undefined: dict[str, str]) -> None:
    if undefined:
        raise AttributionError("; ".join(gaps(undefined)))
