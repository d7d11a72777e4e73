"""A section of a run's report: its title and text, its figures and tables, and what it may be drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from xface.report.html.csv_tables import Table
from xface.report.run.figures import NamedFigure
from xface.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Report:
    """What a section is drawn from: the run, and what `xface.findings.comparison` says of another.

    `faces` are the addresses of the faces by row. `stored` is the data that a page for mail has within, and
    is empty where all data is beside the page. `seconds` is what the drawing took so far.
    """

    run: RunFolder
    faces: Mapping[int, str] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict)
    compare: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def is_single(self) -> bool:
        """Whether the page is one file, with some of the images only."""
        return bool(self.stored)

    @cached_property
    def shown(self) -> frozenset[int]:
        """The rows of the images that a single page holds."""
        return frozenset(self.stored["images"]["row"] if self.is_single else ())


@dataclass(frozen=True)
class Section:
    """A section of the page.

    `template` is Jinja's, in which every value is escaped; it has `run`, `manifest`, `findings`, `compare`,
    the filters of `xface.report.run.page`, and what `data` returns; where that is None the report lacks the
    section. `heading` stands over it if `title`, which the navigation has, is too short. `figures` are saved
    as PNG by their names, `tables` as CSV. A button with `data-subset` and `data-number` shows the images
    of `subsets`, their rows, in the gallery. `script` is JavaScript for the end of the page.

    Example:
        >>> Section("Device", "<p>Made on {{ manifest.device }}.</p>").heading
        'Device'
    """

    title: str
    template: str
    data: Callable[[Report], Mapping[str, Any] | None] = lambda report: {}
    heading: str = ""
    figures: Callable[[Report], Iterable[NamedFigure]] = lambda report: ()
    tables: Callable[[Report], Iterable[Table]] = lambda report: ()
    subsets: Callable[[Report], Mapping[str, list[list[int]]]] = lambda report: {}
    script: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "heading", self.heading or self.title)


def beside(name: str) -> str:
    """The text of a file in the folder of sections."""
    return files("xface.report.run.sections").joinpath(name).read_text(encoding="utf-8")
