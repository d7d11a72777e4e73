"""The public names of a package, imported on first use, so that the package itself loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's `__getattr__`, `__dir__` and `__all__` are (PEP 562), from each name's module.

    Example:
        >>> get, names, _ = exports("fractions", {"Fraction": "fractions"})
        >>> names(), get("Fraction").__name__
        (['Fraction'], 'Fraction')
        >>> get("Frction")
        Traceback (most recent call last):
        AttributeError: module 'fractions' has no attribute 'Frction'
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: list(homes), list(homes)
