"""Networks: what xface can build, one entry each in the zoo, and the networks that are its own.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.networks.architectures import Architecture as Architecture
    from xface.networks.zoo import ARCHITECTURES as ARCHITECTURES
    from xface.networks.zoo import architecture as architecture

_HOMES = {
    "ARCHITECTURES": "xface.networks.zoo",
    "Architecture": "xface.networks.architectures",
    "architecture": "xface.networks.zoo",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
