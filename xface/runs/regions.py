"""The regions of a run as its report draws them on a frontal face of 200 by 240, as its manifest has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

Regions: TypeAlias = Mapping[str, Mapping[str, Any]]


def regions_of(manifest: Mapping[str, Any]) -> Regions:
    """Of each region that a run measured, its closed `outlines` and where its number, the `label`, stands.

    An outline is `x,y x,y ...`; a hole's turns the other way. A region that the drawn face lacks has none.

    Example:
        >>> list(regions_of({}))[0], regions_of({})["nose"]["label"]
        ('right_eye', [100, 126])
    """
    return dict(manifest["regions"]) if "regions" in manifest else _before()


@cache
def _before() -> Regions:
    """The regions that were measured while manifests named none. These stay as they are."""
    text = files("xface.runs").joinpath("drawn_regions.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
