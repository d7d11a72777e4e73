"""Data: which pictures are of which class, how they are divided, and how they reach the network.

The names below are imported on first use, so that the package itself loads neither pandas nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xface.errors import DataError as DataError

if TYPE_CHECKING:
    from xface.data.faces_dataset import FaceDataset as FaceDataset
    from xface.data.labels import CLASSES as CLASSES
    from xface.data.labels import Vocabulary as Vocabulary
    from xface.data.samples import Samples as Samples
    from xface.data.samples import join as join
    from xface.data.samples import read_samples as read_samples
    from xface.data.splits import leakage as leakage
    from xface.data.splits import split as split

_HOMES = {
    "CLASSES": "labels",
    "FaceDataset": "faces_dataset",
    "Samples": "samples",
    "join": "samples",
    "leakage": "splits",
    "read_samples": "samples",
    "split": "splits",
    "Vocabulary": "labels",
}

__all__ = [*_HOMES, "DataError"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface.data' has no attribute {name!r}")
    return getattr(import_module(f"xface.data.{_HOMES[name]}"), name)
