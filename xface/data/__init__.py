"""Data: which pictures are of which class, how they are divided, and how they reach the network.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.data.dataset import FaceDataset as FaceDataset
    from xface.data.labelled_pictures import Samples as Samples
    from xface.data.labelled_pictures import join as join
    from xface.data.labelled_pictures import read_samples as read_samples
    from xface.data.labels import CLASSES as CLASSES
    from xface.data.labels import Vocabulary as Vocabulary
    from xface.data.splits import leakage as leakage
    from xface.data.splits import split as split
    from xface.errors import DataError as DataError

_HOMES = {
    "CLASSES": "xface.data.labels",
    "DataError": "xface.errors",
    "FaceDataset": "xface.data.dataset",
    "Samples": "xface.data.labelled_pictures",
    "Vocabulary": "xface.data.labels",
    "join": "xface.data.labelled_pictures",
    "leakage": "xface.data.splits",
    "read_samples": "xface.data.labelled_pictures",
    "split": "xface.data.splits",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
