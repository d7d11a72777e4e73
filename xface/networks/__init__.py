"""Networks: what xface can build, one entry each in the zoo, and the networks that are its own.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.networks.architectures import Architecture as Architecture
    from xface.networks.zoo import ARCHITECTURES as ARCHITECTURES
    from xface.networks.zoo import architecture as architecture

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ARCHITECTURES": "xface.networks.zoo",
        "Architecture": "xface.networks.architectures",
        "architecture": "xface.networks.zoo",
    },
)
