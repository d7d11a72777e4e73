"""Options of an architecture, checked before anything is built in earnest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch

from xface.errors import UnknownNameError, UsageError
from xface.models.architectures import Architecture


def checked_options(arch: Architecture, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `arch.build` takes them, lists as tuples.

    Raises:
        UnknownNameError: it has no such option. UsageError: it cannot be built with these.

    Example:
        >>> from xface.models import architecture
        >>> checked_options(architecture("cbam_resnet"), {"depht": 8})
        Traceback (most recent call last):
        xface.errors.UnknownNameError: unknown option of cbam_resnet 'depht'; did you mean 'depth'?
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if not given:
        return given
    try:
        with torch.device("meta"):
            arch.build(2, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise UnknownNameError(f"option of {arch.name}", unknown[1], _names(arch)) from error
        raise UsageError(f"{arch.name} cannot be built with options {given}: {error}") from error
    return given


def _names(arch: Architecture) -> list[str]:
    with torch.device("meta"):
        kind = type(arch.build(2))
    known = inspect.signature(kind).parameters.values()
    return [each.name for each in known if each.default is not each.empty and each.name != "num_classes"]
