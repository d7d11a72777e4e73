"""Runs a job on image after image; one that fails costs only itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from xface.errors import CheckpointError, ImageError, LandmarkError
from xface.files.paths import as_utf8


def each_image(
    paths: Sequence[Path],
    job: Callable[[int, Path], None],
    as_json: bool,
    at_end: Callable[[], None] = lambda: None,
) -> None:
    """Call job(index, path) for each image, then at_end(); exit 1 if an image failed, each with its reason.

    Reasons go to stderr; with `as_json` a failed image also has its line on stdout: `image` and `error`.
    """
    failed = 0
    hidden = not as_json or len(paths) < 2 or not sys.stderr.isatty()
    with click.progressbar(enumerate(paths), length=len(paths), file=sys.stderr, hidden=hidden) as numbered:
        for index, path in numbered:
            try:
                job(index, path)
            except (ImageError, LandmarkError, CheckpointError) as error:  # the last: no finite logits for it
                failed += 1
                click.echo(f"xface: {error}", err=True)
                if as_json:
                    print_json({"image": str(path), "error": str(error)})
    at_end()
    if failed:
        others = ", the others are done" if failed < len(paths) else ""
        click.echo(f"xface: {failed} of {len(paths)} images failed{others}", err=True)
        sys.exit(1)


def print_json(content: dict[str, Any]) -> None:
    """Print one object on one line of stdout; a name's bytes that are no UTF-8 are spelled out: `\\udcff`."""
    click.echo(json.dumps(_spelled_out(content), allow_nan=False))


def _spelled_out(value: Any) -> Any:
    """The value without half surrogates, which are not valid JSON."""
    if isinstance(value, str):
        return as_utf8(value)
    if isinstance(value, dict):
        return {_spelled_out(key): _spelled_out(entry) for key, entry in value.items()}
    return [_spelled_out(entry) for entry in value] if isinstance(value, (list, tuple)) else value
