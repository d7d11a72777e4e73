"""Training: configs, runs that can be resumed, grids of them.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.training.config import Config as Config
    from xface.training.config_files import read_config as read_config
    from xface.training.grid_search import GridSearch as GridSearch
    from xface.training.grid_search import run_grid as run_grid
    from xface.training.run import Run as Run
    from xface.training.run import resume as resume
    from xface.training.run import train as train

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Config": "xface.training.config",
        "GridSearch": "xface.training.grid_search",
        "Run": "xface.training.run",
        "read_config": "xface.training.config_files",
        "resume": "xface.training.run",
        "run_grid": "xface.training.grid_search",
        "train": "xface.training.run",
    },
)
