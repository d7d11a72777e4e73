"""What a config implies, spelled out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xface.networks.zoo import architecture
from xface.preprocessing import PRESETS, Preprocessing
from xface.training.config import FOLLOWED, Config, StepLR, Stopping


def completed(config: Config) -> Config:
    """The config with all that a name implies spelled out, so that it means the same for ever.

    Example:
        >>> config = Config(network="ResNet", data={"train": "a.csv"}, prefix="run", EARLY_STOPPING_EPOCH=5)
        >>> full = completed(config)
        >>> full.network, full.schedule.step_size, full.early_stopping.patience
        ('resnet18', 5, 5)
    """
    updates: dict[str, Any] = {"EARLY_STOPPING_EPOCH": None, "preprocessing": preparation(config)}
    updates["input_size"] = None
    updates["network"] = FOLLOWED.get(config.network, config.network)
    if config.EARLY_STOPPING_EPOCH is not None:
        updates["early_stopping"] = Stopping(patience=config.EARLY_STOPPING_EPOCH)
    if config.network in FOLLOWED and config.schedule is None:
        updates["schedule"] = StepLR(type="StepLR", step_size=5, gamma=0.1)
    return config.model_copy(update=updates)


def preparation(config: Config) -> Preprocessing:
    """How pictures are prepared: as the config says, else as usual for the network, in the size asked for.

    A centre crop keeps its ratio to the shorter side.

    Example:
        >>> data = {"train": "faces.csv"}
        >>> preparation(Config(network="resnet18", data=data, prefix="run", input_size=112)).shorter_side
        128
    """
    usual = config.preprocessing or _usual(config.network)
    if config.input_size is None:
        return usual
    return _resized(usual, (config.input_size.height, config.input_size.width))


def _usual(network: str) -> Preprocessing:
    return PRESETS["opencv_bgr"] if network in FOLLOWED else architecture(network).preprocessing


def _resized(preprocessing: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    shorter = preprocessing.shorter_side
    if preprocessing.size and shorter:
        shorter = round(shorter * max(size) / max(preprocessing.size))
    return replace(preprocessing, size=size, shorter_side=shorter)
