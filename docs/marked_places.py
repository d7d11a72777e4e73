"""Fills the marked places of pages."""

from __future__ import annotations

import re
from pathlib import Path


def fill(page: Path, mark: str, content: str) -> None:
    """Fill a marked place of a page."""
    page.write_text(filled(page.read_text(encoding="utf-8"), mark, content), encoding="utf-8")


def filled(text: str, mark: str, content: str) -> str:
    """Replace what stands between `<!-- mark -->` and `<!-- /mark -->`."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    text, count = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
    assert count == 1, f"the page must hold the marks of {mark!r} once"
    return text
