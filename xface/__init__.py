"""xface: which parts of a face does a CNN look at, and can that be believed?

The public names below are imported on first use, so `import xface` loads neither torch nor dlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xface.attribution import attribute as attribute
    from xface.detectors import Detector as Detector
    from xface.detectors.loading import load as load
    from xface.errors import XFaceError as XFaceError
    from xface.explanation import Explanation as Explanation
    from xface.explanation import explain as explain

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "attribute": "xface.attribution",
        "explain": "xface.explanation",
        "Explanation": "xface.explanation",
        "load": "xface.detectors.loading",
        "Detector": "xface.detectors",
        "XFaceError": "xface.errors",
    },
)
