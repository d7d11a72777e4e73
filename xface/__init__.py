"""xface: which parts of a face does a CNN look at, and can that be believed?

The public names below are imported on first use, so `import xface` loads neither torch nor dlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xface.attribution import attribute as attribute
    from xface.detectors import Detector as Detector
    from xface.detectors.loading import load as load
    from xface.errors import XFaceError as XFaceError
    from xface.explanation import Explanation as Explanation
    from xface.explanation import explain as explain

_HOMES = {
    "attribute": "xface.attribution",
    "explain": "xface.explanation",
    "Explanation": "xface.explanation",
    "load": "xface.detectors.loading",
    "Detector": "xface.detectors",
    "XFaceError": "xface.errors",
}

__all__ = ["Detector", "Explanation", "XFaceError", "attribute", "explain", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
