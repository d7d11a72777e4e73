"""Training: configs, runs that can be gone on with, grids of them.

The names below are imported on first use, so that the package itself loads neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.training.config import Config as Config
    from xface.training.grid import Grid as Grid
    from xface.training.grid import run_grid as run_grid
    from xface.training.reading import read_config as read_config
    from xface.training.run import Run as Run
    from xface.training.run import resume as resume
    from xface.training.run import train as train

_HOMES = {
    "Config": "config",
    "Grid": "grid",
    "Run": "run",
    "read_config": "reading",
    "resume": "run",
    "run_grid": "grid",
    "train": "run",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xface.training' has no attribute {name!r}")
    return getattr(import_module(f"xface.training.{_HOMES[name]}"), name)
