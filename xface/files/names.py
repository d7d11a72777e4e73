"""File names that are safe on every system, made from texts of any kind."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

MAX_STEM_BYTES = 100


def safe_stem(path: str | os.PathLike[str]) -> str:
    """Turn a path into a stem that is safe in any file name: `safe_name` of its last part without the ending.

    Example:
        >>> safe_stem("photos/Zoë's face (2).jpg")
        'Zoë_s_face__2_'
    """
    return safe_name(Path(path).stem)


def safe_name(text: str) -> str:
    """Turn any text into a part of a file name, at most 100 bytes of UTF-8.

    Letters of any script with their marks, digits, dot, dash and underscore stay; all else becomes `_`, and
    so does a dot or dash at the start.

    Example:
        >>> safe_name("-rf"), safe_name("timm/resnet18.a1")
        ('_rf', 'timm_resnet18.a1')
    """
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(c if c in ".-_" or unicodedata.category(c)[0] in "LMN" else "_" for c in composed)
    return re.sub(r"^[.-]|^$", "_", kept).encode()[:MAX_STEM_BYTES].decode(errors="ignore")
