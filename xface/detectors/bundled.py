"""The checkpoints that come with xface, found from a checkout and from an installed wheel."""

from __future__ import annotations

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
    """Beside the package `xface`: a wheel puts `xface_weights` there, a checkout has it as `weights`.

    Looking there, and not for any `xface_weights` on the path, keeps a checkout from taking the weights of
    another version that is installed.
    """
    beside = Path(__file__).resolve().parents[2]
    installed = beside / "xface_weights"
    return installed if installed.is_dir() else beside / "weights"
