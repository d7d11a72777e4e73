"""Detectors: networks restored from checkpoints, with their cards, ready to predict.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.detectors.card import Card as Card
    from xface.detectors.checkpoints.checkpoint import Checkpoint as Checkpoint
    from xface.detectors.checkpoints.checkpoint import read_checkpoint as read_checkpoint
    from xface.detectors.detector import Detector as Detector
    from xface.detectors.loading import load as load

_HOMES = {
    "Card": "xface.detectors.card",
    "Checkpoint": "xface.detectors.checkpoints.checkpoint",
    "Detector": "xface.detectors.detector",
    "load": "xface.detectors.loading",
    "read_checkpoint": "xface.detectors.checkpoints.checkpoint",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
