"""Detectors: networks restored from checkpoints, with their cards, ready to predict.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.detectors.card import Card as Card
    from xface.detectors.checkpoints.checkpoint import Checkpoint as Checkpoint
    from xface.detectors.checkpoints.checkpoint import read_checkpoint as read_checkpoint
    from xface.detectors.detector import Detector as Detector
    from xface.detectors.loading import load as load

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Card": "xface.detectors.card",
        "Checkpoint": "xface.detectors.checkpoints.checkpoint",
        "Detector": "xface.detectors.detector",
        "load": "xface.detectors.loading",
        "read_checkpoint": "xface.detectors.checkpoints.checkpoint",
    },
)
