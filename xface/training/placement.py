"""Where a run is trained: on which devices, and on how many."""

from __future__ import annotations

from typing import Any

import torch

from xface.errors import DeviceError
from xface.training.config import Config


def device(config: Config) -> torch.device:
    """The device, or the first of several; `auto` is the GPU if there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def placement(config: Config) -> dict[str, Any]:
    """Lightning's words for where to train.

    Raises:
        DeviceError: there is no such device here, or not so many.

    Example:
        >>> placement(Config(network="meso4", data={"train": "a.csv"}, prefix="run", device="cpu"))
        {'accelerator': 'cpu', 'devices': 1}
    """
    name, count = config.device, config.devices
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise DeviceError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device {name!r}: there is no CUDA on this machine; --set device=auto takes what is there"
        )
    on_gpu = device(config).type == "cuda"
    if on_gpu and max(count, int(index or 0) + 1) > torch.cuda.device_count():
        raise DeviceError(f"device {name!r}, {count} of them: this machine has {torch.cuda.device_count()}")
    several = {"strategy": "ddp_spawn"} if count > 1 else {}
    chosen = [int(index)] if index and count == 1 else count
    return {"accelerator": "gpu" if on_gpu else "cpu", "devices": chosen, **several}
