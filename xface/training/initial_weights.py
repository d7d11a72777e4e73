"""Where a network's weights start: at random, from a checkpoint, or from torchvision's published ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from xface.detectors.checkpoints.checkpoint import read_checkpoint
from xface.detectors.class_names import class_names
from xface.detectors.detector import takes
from xface.detectors.loading import ODD_SIZE, Opened, open_weights
from xface.errors import CheckpointError, UsageError
from xface.networks.architectures import Architecture
from xface.networks.blueprints import checked_options
from xface.networks.zoo import architecture
from xface.training.config import Config
from xface.training.defaults import preparation

RELEASE = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
EFFICIENTNET_PYTORCH = {
    name: f"{RELEASE}{name}-{digest}.pth"
    for name, digest in {
        "efficientnet-b0": "355c32eb",
        "efficientnet-b1": "f1951068",
        "efficientnet-b2": "8bb594d6",
        "efficientnet-b3": "5fb5a3c3",
        "efficientnet-b4": "6ed6700e",
        "efficientnet-b5": "b6417697",
        "efficientnet-b6": "c76e70fd",
        "efficientnet-b7": "dcc49843",
    }.items()
}
"""The published weights of the package efficientnet_pytorch, which keeps them in torch's cache too."""


def build(config: Config) -> nn.Module:
    """The network of a config with its initial weights, drawn from torch's generator.

    Raises:
        UsageError: the architecture has no such option, or no published weights.
        CheckpointError: the weights to start from cannot be read, or don't fit.

    Example:
        >>> config = Config(network="meso4", data={"train": "faces.csv"}, prefix="run")
        >>> sum(parameter.numel() for parameter in build(config).parameters())
        27994
    """
    arch = architecture(config.network)
    model = arch.build(config.data.num_classes, **checked_options(arch, config.options))
    if not config.model.init_weights:
        model.apply(_reset)
    if config.model.pretrained:
        _load_pretrained(model, arch)
    if config.checkpoint:
        _load_checkpoint(model, arch, config.checkpoint, config.data.classes)
    if config.dropout_rate is not None:
        set_dropout(model, arch, config.dropout_rate)
    return model


def check_size(model: nn.Module, config: Config) -> None:
    """Raise UsageError unless a network can take pictures of the config's size.

    Example:
        >>> config = Config(network="meso4", data={"train": "faces.csv"}, prefix="run", input_size=64)
        >>> check_size(build(config), config)
        Traceback (most recent call last):
        xface.errors.UsageError: meso4 cannot take pictures of 64x64; its usual input_size is 256x256
    """
    size, usual = preparation(config).size, architecture(config.network).preprocessing.size
    if size is None and config.batch_size > 1:
        raise UsageError("pictures in their own sizes make no batches; give input_size, or batch_size 1")
    if not _takes_in_training(model, size or ODD_SIZE):
        asked = f"of {size[0]}x{size[1]}" if size else "in their own sizes"
        advice = f"its usual input_size is {usual[0]}x{usual[1]}" if usual else "give another input_size"
        raise UsageError(f"{config.network} cannot take pictures {asked}; {advice}")
    if (crop := config.random_crop) and not _takes_in_training(model, (crop.side, crop.side)):
        raise UsageError(
            f"{config.network} cannot take a random_crop of {crop.side}x{crop.side}; give a larger one"
        )


def _takes_in_training(model: nn.Module, size: tuple[int, int]) -> bool:
    model.eval()
    model.training = True  # so that auxiliary heads are asked too, while BatchNorm can do with one picture
    taken = takes(model, size)
    model.train()
    return taken


def _reset(module: nn.Module) -> None:
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()


def set_dropout(model: nn.Module, arch: Architecture, rate: float) -> None:
    """Set the rate of all dropout layers; a network without any drops of its head's input, in training.

    Example:
        >>> from xface.networks import architecture
        >>> arch = architecture("vgg11")
        >>> with torch.device("meta"):
        ...     model = arch.build(2)
        >>> set_dropout(model, arch, 0.1)
        >>> [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        [0.1, 0.1]
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = rate
    if not layers:
        # a hook and no module: the weights keep the names that every reader knows
        model.get_submodule(arch.head).register_forward_pre_hook(_Dropping(rate))


class _Dropping:
    """Drop of a module's input while it is in training mode."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (nn.functional.dropout(inputs[0], self.rate, module.training), *inputs[1:])


def _load_checkpoint(model: nn.Module, arch: Architecture, file: str, classes: tuple[str, ...]) -> None:
    opened = open_weights(file, arch.name)
    _check_order(_known_classes(opened), classes, file)
    state = opened.restored.model.state_dict()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"cannot start from {file!r}: {reason}; give weights of this network"
        ) from error


def _known_classes(opened: Opened) -> tuple[str, ...]:
    """The classes on the card or in the file, in their order; none where neither names them."""
    if opened.card_file:
        return opened.card.classes
    return class_names(opened.checkpoint, len(opened.card.classes)) or ()


def _check_order(theirs: tuple[str, ...], classes: tuple[str, ...], file: str) -> None:
    """Refuse weights in which a class of ours has another place; other classes are learnt from the start."""
    places = {name.casefold(): place for place, name in enumerate(theirs)}
    if any(places.get(name.casefold(), place) != place for place, name in enumerate(classes)):
        raise UsageError(
            f"cannot start from {file!r}: its classes are {', '.join(theirs)}, but data.classes are "
            f"{', '.join(classes)}; set data.classes to the order of the weights"
        )


def _load_pretrained(model: nn.Module, arch: Architecture) -> None:
    """Load published ImageNet weights from torch's cache, all but the heads."""
    state = _renamed(read_checkpoint(_cached(arch)).state, arch)
    heads = tuple(f"{head}." for head in (arch.head, *arch.aux_heads))
    own = model.state_dict()
    usable = {name: tensor for name, tensor in state.items() if name in own and not name.startswith(heads)}
    lacking = [name for name in own if name not in usable and not name.startswith(heads)]
    if lacking := [name for name in lacking if not name.endswith("num_batches_tracked")]:
        raise CheckpointError(f"the pretrained weights of {arch.name} lack {', '.join(lacking[:5])}")
    model.load_state_dict(usable, strict=False)


def _renamed(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    renamed = dict(state)
    for pattern, replacement in arch.renames:
        renamed = {re.sub(pattern, replacement, name): tensor for name, tensor in renamed.items()}
    return renamed


def _cached(arch: Architecture) -> Path:
    """The file of published weights in torch's cache, the recommended one if there are several."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    addresses = list(_addresses(arch))
    if not addresses:
        raise UsageError(f"there are no published weights for {arch.name}; take `checkpoint`, a weights file")
    files = {folder / Path(urlparse(address).path).name: address for address in addresses}
    if found := next((file for file in files if file.is_file()), None):
        return found
    file, address = next(iter(files.items()))
    raise CheckpointError(
        f"the pretrained weights of {arch.name} aren't in torch's cache, and nothing is downloaded here: "
        f"download {address} and save it as {str(file)!r}, or set model.pretrained to false"
    )


def _addresses(arch: Architecture) -> Iterator[str]:
    if arch.name in EFFICIENTNET_PYTORCH:
        yield EFFICIENTNET_PYTORCH[arch.name]
        return
    from torchvision.models import get_model_weights, list_models

    if arch.name in list_models():
        weights = get_model_weights(arch.name)
        yield from dict.fromkeys([weights.DEFAULT.url, *(member.url for member in weights)])
