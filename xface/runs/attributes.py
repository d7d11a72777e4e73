"""The attributes of a run's faces and their words, as its manifest has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = ("label", "unit", "more", "less")
BEFORE = {
    "sharpness": ("face sharpness", "luma²", "sharper", "less sharp"),
    "eye_sharpness": ("eye sharpness", "luma²", "sharper at the eyes", "less sharp at the eyes"),
    "brightness": ("brightness", "0 to 1", "brighter", "darker"),
    "contrast": ("contrast", "0 to 0.5", "richer in contrast", "poorer in contrast"),
    "exposure": ("badly exposed part", "0 to 1", "more clipped", "less clipped"),
    "blockiness": ("JPEG blockiness", "ratio", "blockier", "less blocky"),
    "face_size": ("face size, pixels", "px", "larger", "smaller"),
    "eye_openness": ("eye openness", "ratio", "wider open at the eyes", "less open at the eyes"),
    "mouth_openness": ("mouth openness", "ratio", "wider open at the mouth", "less open at the mouth"),
    "yaw": ("head turned sideways, degrees", "degrees",
            "turned more to their left", "turned more to their right"),
    "pitch": ("head raised or lowered, degrees", "degrees", "turned further up", "turned further down"),
    "roll": ("head tilted, degrees", "degrees", "leant more to their left", "leant more to their right"),
}  # fmt: skip
"""The words, as named above, of what was measured while manifests named none. These stay as they are."""


def attributes_of(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    """`label` and `unit` of each attribute that a run measured, and what a face with `more` or `less` is.

    Example:
        >>> attributes_of({})["brightness"]
        {'label': 'brightness', 'unit': '0 to 1', 'more': 'brighter', 'less': 'darker'}
    """
    if "attributes" in manifest:
        return dict(manifest["attributes"])
    return {name: dict(zip(WORDS, each, strict=True)) for name, each in BEFORE.items()}
