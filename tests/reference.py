"""Slow, obvious references: reverse mode by hand over the traced graph, one operation at a time.

Nothing here is shared with xface: no function mode, no autograd.Function, no hooks. Each node is run on
copies of its inputs; its vector-Jacobian product comes from autograd on that single node, and a rectifier's
from its rule as it is published.
"""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

RULES = ("plain", "guided", "deconvnet")
SLOPES = {
    "relu": lambda z: (z > 0).to(z),
    "leaky_relu": lambda z, slope=0.1: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, slope)),
    "silu": lambda z: torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z))),
    "gelu": lambda z: (
        0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    ),
    "hardswish": lambda z: torch.where(z <= -3, 0 * z, torch.where(z >= 3, 0 * z + 1, (2 * z + 3) / 6)),
    "elu": lambda z: torch.where(z > 0, torch.ones_like(z), torch.exp(z)),
}
MODULES = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.Hardswish: "hardswish",
    nn.ELU: "elu",
}
CALLS = {
    F.relu: "relu", torch.relu: "relu", torch.relu_: "relu", F.leaky_relu: "leaky_relu", F.silu: "silu",
    F.gelu: "gelu", F.hardswish: "hardswish", F.elu: "elu", "relu": "relu", "relu_": "relu",
}  # fmt: skip


def rectifier_gradient(rule: str, slope: torch.Tensor, g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    if rule == "plain":
        return g * slope
    positive = torch.where(g > 0, g, torch.zeros_like(g))
    return positive if rule == "deconvnet" else positive * (z > 0).to(g) * slope


def input_gradients(model: nn.Module, images: torch.Tensor, classes: list[int]) -> dict[str, torch.Tensor]:
    """The input's gradient under each rule, image by image, for networks that torch.fx can trace."""
    traced = fx.symbolic_trace(model)
    each = [_one(traced, image[None], cls) for image, cls in zip(images, classes, strict=True)]
    return {rule: torch.cat([found[rule] for found in each]) for rule in RULES}


def _one(traced: fx.GraphModule, image: torch.Tensor, cls: int) -> dict[str, torch.Tensor]:
    modules = dict(traced.named_modules())
    values: dict[fx.Node, object] = {}
    with torch.no_grad():
        for node in traced.graph.nodes:
            values[node] = image if node.op == "placeholder" else _run(node, values, modules)
    return {rule: _backward(traced.graph, values, modules, cls, rule) for rule in RULES}


def _backward(graph, values, modules, cls, rule):
    nodes = list(graph.nodes)
    head, entry = nodes[-1].args[0], next(n for n in nodes if n.op == "placeholder")
    seed = torch.zeros_like(values[head])
    one_logit = seed.shape[1] == 1
    seed[0, 0 if one_logit else cls] = -1.0 if one_logit and cls == 0 else 1.0
    gradients = {head: seed}
    for node in reversed(nodes):
        if node in gradients and node.op.startswith("call"):
            for parent, g in _vjp(node, values, modules, gradients[node], rule):
                gradients[parent] = gradients[parent] + g if parent in gradients else g
    return gradients[entry]


def _run(node, values, modules, leaves=None):
    """Run one node on fresh copies of its inputs, so that in-place calls write into nothing that is kept."""

    def value(parent):
        if leaves and parent in leaves:
            return leaves[parent].clone()
        kept = values[parent]
        return kept.clone() if isinstance(kept, torch.Tensor) else kept

    args = fx.node.map_arg(node.args, value)
    kwargs = fx.node.map_arg(node.kwargs, value)
    if node.op == "output":
        return args[0]
    if node.op == "get_attr":
        return operator.attrgetter(node.target)(modules[""]).detach()
    if node.op == "call_module":
        return modules[node.target](*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _vjp(node, values, modules, g, rule):
    module = modules[node.target] if node.op == "call_module" else None
    kind = MODULES.get(type(module)) if module is not None else CALLS.get(node.target)
    if kind:
        parent = node.args[0]
        settings = [module.negative_slope] if isinstance(module, nn.LeakyReLU) else []
        slope = SLOPES[kind](values[parent], *settings)
        return [(parent, rectifier_gradient(rule, slope, g, values[parent]))]
    parents = [p for p in node.all_input_nodes if _floating(values[p]) and p.op != "get_attr"]
    leaves = {p: values[p].detach().clone().requires_grad_() for p in parents}
    with torch.enable_grad():
        result = _run(node, values, modules, leaves)
    if not (isinstance(result, torch.Tensor) and result.requires_grad):
        return []
    found = torch.autograd.grad(result, list(leaves.values()), g, allow_unused=True)
    return [(p, d) for p, d in zip(leaves, found, strict=True) if d is not None]


def _floating(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def layer_passes(model: nn.Module, image: torch.Tensor, cls: int, layers) -> dict[str, tuple]:
    """Each layer's activation and true gradient for one image (1, C, H, W), by retain_grad.

    For networks whose only in-place calls are modules with an `inplace` switch: it is off meanwhile.
    """
    switched = [m for m in model.modules() if getattr(m, "inplace", False)]
    kept: dict[str, torch.Tensor] = {}

    def keep(name, output):
        output.retain_grad()
        kept[name] = output
        return output + 0

    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, i, output, name=name: keep(name, output))
        for name in layers
    ]
    for module in switched:
        module.inplace = False
    logits = model(image.clone().requires_grad_())
    (logits[0, cls] if logits.shape[1] > 1 else logits[0, 0] * (1 if cls == 1 else -1)).backward()
    for handle in handles:
        handle.remove()
    for module in switched:
        module.inplace = True
    return {name: (output.detach(), output.grad) for name, output in kept.items()}


def gradcams(model, images, classes, layers) -> dict[str, torch.Tensor]:
    passes = [
        layer_passes(model, image[None], cls, layers) for image, cls in zip(images, classes, strict=True)
    ]
    return {name: torch.stack([_gradcam(*each[name]) for each in passes]) for name in layers}


def _gradcam(activation: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    cam = sum(g[0, k].mean() * activation[0, k] for k in range(activation.shape[1]))
    return torch.where(cam > 0, cam, torch.zeros_like(cam))


def upsample(cam: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear, align_corners=False, written out: output i sits at (i + 0.5) h / H - 0.5."""
    return _interpolate(_interpolate(cam, height, 1), width, 2)


def _interpolate(cam, length, dim):
    size = cam.shape[dim]
    position = ((torch.arange(length, dtype=cam.dtype) + 0.5) * size / length - 0.5).clamp(0, size - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=size - 1)
    part = (position - low).reshape([-1 if d == dim else 1 for d in range(3)])
    return cam.index_select(dim, low) * (1 - part) + cam.index_select(dim, high) * part


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    truth = truth.detach().double()
    return float((found.double() - truth).abs().max() / truth.abs().max())
