"""A wrapper class per method, as Minsuk Sung's Fake Face Detection and many others write it, to be timed.

Each wrapper puts its own hooks on the network, runs a forward pass and a full backward pass (the weights get
gradients too) and takes its hooks off. `GuidedWrapper` and `DeconvnetWrapper` see `nn.ReLU` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class VanillaWrapper:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.handles: list[Any] = []

    def gradient(self, images: Tensor, classes: Tensor) -> Tensor:
        leaf = images.clone().requires_grad_()
        self.model.zero_grad()
        self.model(leaf).gather(1, classes[:, None]).sum().backward()
        for handle in self.handles:
            handle.remove()
        assert leaf.grad is not None
        return leaf.grad


class DeconvnetWrapper(VanillaWrapper):
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                self.handles.append(module.register_full_backward_hook(self.rectify))

    def rectify(
        self, module: nn.Module, inward: tuple[Tensor, ...], outward: tuple[Tensor, ...]
    ) -> tuple[Tensor]:
        return (F.relu(outward[0]),)


class GuidedWrapper(DeconvnetWrapper):
    def rectify(
        self, module: nn.Module, inward: tuple[Tensor, ...], outward: tuple[Tensor, ...]
    ) -> tuple[Tensor]:
        return (F.relu(inward[0]),)


class GradCAMWrapper(VanillaWrapper):
    def __init__(self, model: nn.Module, layers: list[str]) -> None:
        super().__init__(model)
        self.activations: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        for name in layers:
            self.handles.append(model.get_submodule(name).register_forward_hook(self.keep(name)))

    def keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.activations[name] = output.detach().clone()
            output.register_hook(lambda g: self.gradients.update({name: g}))

        return hook

    def maps(self, images: Tensor, classes: Tensor) -> Iterator[Tensor]:
        self.gradient(images, classes)
        for name, activation in self.activations.items():
            weights = self.gradients[name].mean(dim=(2, 3), keepdim=True)
            cam = (weights * activation).sum(dim=1, keepdim=True).relu()
            yield F.interpolate(cam, images.shape[2:], mode="bilinear", align_corners=False)
