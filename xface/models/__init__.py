"""Detectors: networks, checkpoints, cards and preprocessing.

The public names below are imported on first use, so that reading the list of architectures needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.models.architectures import ARCHITECTURES as ARCHITECTURES
    from xface.models.architectures import Architecture as Architecture
    from xface.models.architectures import architecture as architecture
    from xface.models.card import Card as Card
    from xface.models.checkpoint import Checkpoint as Checkpoint
    from xface.models.checkpoint import read_checkpoint as read_checkpoint
    from xface.models.detector import Detector as Detector
    from xface.models.layers import feature_maps as feature_maps
    from xface.models.loading import load as load
    from xface.models.preprocessing import PRESETS as PRESETS
    from xface.models.preprocessing import Prepared as Prepared
    from xface.models.preprocessing import Preprocessing as Preprocessing

_HOMES = {
    "ARCHITECTURES": "architectures",
    "Architecture": "architectures",
    "architecture": "architectures",
    "Card": "card",
    "Checkpoint": "checkpoint",
    "Detector": "detector",
    "PRESETS": "preprocessing",
    "Prepared": "preprocessing",
    "Preprocessing": "preprocessing",
    "feature_maps": "layers",
    "load": "loading",
    "read_checkpoint": "checkpoint",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface.models' has no attribute {name!r}")
    return getattr(import_module(f"xface.models.{_HOMES[name]}"), name)
