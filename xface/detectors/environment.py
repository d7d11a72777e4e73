"""What computed: the device, and the versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "statsmodels", "scikit-learn",
            "dlib-bin", "opencv-python-headless", "pillow")  # fmt: skip


def versions() -> dict[str, str]:
    """Python's version and those of `PACKAGES`."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device_name(device: torch.device) -> str:
    """What computed: the GPU's name, or the CPU and how many threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"
