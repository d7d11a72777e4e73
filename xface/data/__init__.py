"""Data: which pictures are of which class, how they are divided, and how they reach the network.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

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

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "CLASSES": "xface.data.labels",
        "DataError": "xface.errors",
        "FaceDataset": "xface.data.dataset",
        "Samples": "xface.data.labelled_pictures",
        "Vocabulary": "xface.data.labels",
        "join": "xface.data.labelled_pictures",
        "leakage": "xface.data.splits",
        "read_samples": "xface.data.labelled_pictures",
        "split": "xface.data.splits",
    },
)
