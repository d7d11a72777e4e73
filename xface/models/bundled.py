"""The checkpoints that come with xface, found from a checkout and from an installed wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def bundled() -> dict[str, Path]:
    """Each bundled detector's name and weights file; a detector is bundled if its card lies beside it.

    Example:
        >>> bundled()["meso4"].name
        'meso4.safetensors'
    """
    files = sorted(_folder().glob("*.safetensors"))
    return {path.stem: path for path in files if path.with_suffix(".json").is_file()}


def _folder() -> Path:
    """The installed package `xface_weights`, or a checkout's folder `weights` beside the package `xface`."""
    spec = find_spec("xface_weights")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(__file__).resolve().parents[2] / "weights"
