"""Records as text, and where two of them differ."""

import json
import math
import os
import re

RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""How far numbers may be off. float32 sums depend on the processor: SSE4's instructions in place of AVX-512's
changed a map's measures by 2.4e-5. A change of a formula shows far above."""
RANK = 2e-3
"""`rank` counts pixels: noise that swaps two of them in the order moves it by one pixel of a region."""
EFFECT = 1e-3
"""A region's effect is a small difference of two scores."""
LINE = 320
HERE = "/proc/self/cwd"  # absolute and yet the same on every machine: hashes over paths are the same too
VOLATILE = {"xface", "created", "versions", "device", "folder", "stages", "images_per_second", "files"}
"""Keys whose values are of a moment, a machine or a release; `files` are hashes of what pyarrow wrote."""


def as_text(value: object) -> str:
    """JSON with a line for each innermost list or mapping that isn't too long."""
    text = json.dumps(rounded(value), indent=1, ensure_ascii=False)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", on_a_line, text) + "\n"


def on_a_line(inner: re.Match[str]) -> str:
    line = re.sub(r"\s*\n\s*", " ", inner[0])
    return line if len(line) <= LINE else inner[0]


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def differences(before, now, where: str = ""):
    """Each place where two JSON values differ, numbers by more than the tolerance."""
    if isinstance(before, dict) and isinstance(now, dict):
        if list(before) != list(now):
            yield f"{where}: keys {list(before)}\n  are now {list(now)}"
        for key in (key for key in before if key in now):
            yield from differences(before[key], now[key], f"{where}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif not alike(
        before, now, RANK if where.endswith(".rank") else EFFECT if ".effects[" in where else ABSOLUTE
    ):
        yield f"{where}: {before!r}\n  is now {now!r}"


def alike(before, now, absolute: float) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=RELATIVE, abs_tol=absolute)
    return type(before) is type(now) and before == now


def settled(value):
    """The same with volatile values and the working directory replaced."""
    if isinstance(value, dict):
        return {key: "(volatile)" if key in VOLATILE else settled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [settled(each) for each in value]
    return value.replace(os.getcwd(), HERE) if isinstance(value, str) else value
