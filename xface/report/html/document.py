"""The document around a report: its templates, and a policy that lets in nothing but what is its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import ChainableUndefined, Environment, FunctionLoader
from markupsafe import Markup

from xface import wording as words
from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.html.forest import axis_svg, forest_rows

SHARED = "xface.report.html"
LOCK = ".xface-report-lock"
"""Not the run's own: what makes a run holds that while its report is drawn."""


def environment(package: str, filters: Mapping[str, Any]) -> Environment:
    """Jinja's, which escapes every value; templates are of a report's package, else the shared ones."""
    made = Environment(
        autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, loader=FunctionLoader(lambda name: _template(package, name)),
    )  # fmt: skip
    made.filters |= {
        "number": words.number, "decimal": words.decimal, "estimate": words.estimate,
        "percent": words.percent, "p_value": words.p_value, "spaced": words.spaced,
        "moment": words.moment, "counted": words.counted, "highest": words.highest,
        "sentence": words.sentence, "kind_name": words.kind_name,
        "forest_rows": forest_rows, "axis_svg": lambda forest: Markup(axis_svg(forest)),
        **filters,
    }  # fmt: skip
    return made


def dressed(script: str = "", beside: str = "", style: str = "") -> dict[str, Any]:
    """What the shared template shows of style and script, and the policy that lets in these.

    Args:
        script: JavaScript, as `closed` returns it; "" for a page that needs none.
        beside: from where else scripts and pictures may come, such as `'self' file:`.
        style: what is added to the shared style sheet.
    """
    style = _style() + style
    scripts = f"script-src {beside} {_hash(script)}; " if script else ""
    policy = (f"default-src 'none'; {scripts}style-src {_hash(style)}; "
              f"img-src {beside} data:; base-uri 'none'; form-action 'none'")  # fmt: skip
    return {"style": Markup(style), "script": Markup(script), "policy": policy}


def closed(script: str) -> str:
    """A script whose names nothing outside it sees."""
    return f'"use strict";\n(() => {{\n{script}\n}})();\n'


def asset(package: str, name: str) -> str:
    """The text of a file in the folder `template` of a report's package."""
    return files(package).joinpath(f"template/{name}").read_text(encoding="utf-8")


def _template(package: str, name: str) -> str:
    own = files(package).joinpath(f"template/{name}")
    return own.read_text(encoding="utf-8") if own.is_file() else asset(SHARED, name)


def _style() -> str:
    """The pages' style sheet, with the colours of their figures."""
    return f":root {{ --blue: {DARK_BLUE}; --orange: {DARK_VERMILION}; }}\n{asset(SHARED, 'page.css')}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
