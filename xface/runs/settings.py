"""What two runs, or two beginnings of one, were set to otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FACE_DETECTOR = "face_detector"
BEFORE = {"name": "hog", "version": 2}
"""What found the faces of runs whose settings name no face detector. It stays as it is."""
LANDMARK_MODEL = "shape_predictor_68_face_landmarks.dat"
SHOWN = 60  # letters of a setting that has changed


def settings_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, in today's form where they are older.

    Example:
        >>> settings_of({"settings": {"limit": 2, "landmark_model_sha256": "fb"}})["face_detector"]
        {'name': 'hog', 'version': 2, 'models': {'shape_predictor_68_face_landmarks.dat': 'fb'}}
    """
    settings = {"by": [], "proposals": [], **manifest["settings"]}
    if FACE_DETECTOR not in settings:
        model = settings.pop("landmark_model_sha256", None)
        settings[FACE_DETECTOR] = {**BEFORE, "models": {LANDMARK_MODEL: model}}
    return settings


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, each setting that isn't what it was, those within others by all their names.

    Example:
        >>> changes({"limit": None, "card": {"arch": "meso4"}}, {"limit": 2, "card": {"arch": "meso4"}})
        ['limit was None, is 2']
    """
    flat_before, flat_now = dict(_flat(before)), dict(_flat(now))
    pairs = {name: (flat_before.get(name), flat_now.get(name)) for name in {**flat_before, **flat_now}}
    return [
        f"{name.replace('_', ' ')} was {_short(old)}, is {_short(new)}"
        for name, (old, new) in pairs.items()
        if old != new
    ]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
