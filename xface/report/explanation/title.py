"""What stands over a figure: which image, which verdict, which detector; and under it the warning."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from xface.results import ExplanationData
from xface.wording import UNTRAINED, drawable, origin, subject, verdict

TITLE, WARNING = 12.5, 9.0  # letters per inch of the figure's width


def write_title(figure: Figure, lines: Sequence[str], trained: bool = True) -> None:
    """Write lines over the figure, and under it that the network is untrained, broken to its width."""
    inches = figure.get_figwidth()
    title = "\n".join(textwrap.fill(line, int(TITLE * inches)) for line in lines)
    figure.suptitle(title, fontsize=11, parse_math=False)
    if not trained:
        warning = textwrap.fill(UNTRAINED, int(WARNING * inches))
        figure.supxlabel(warning, fontsize=12, weight="bold", color="black", backgroundcolor="#ffd60a")


def title_lines(findings: ExplanationData) -> list[str]:
    """The image with its verdict, and what is explained of which detector."""
    return [
        f"{file_name(findings.image)}: {verdict(findings.prediction)}",
        f"explained: {subject(findings)}; {origin(findings)}",
    ]


def file_name(path: str) -> str:
    """The last part of a path, short and in letters that the figure's font has."""
    return shortened(path.rsplit("/", 1)[-1], 60)


def shortened(name: str, most: int = 20) -> str:
    """A name from outside in fewer than so many letters, all of which the figure's font has."""
    name = drawable(name)
    return name if len(name) < most else f"{name[: most - 3]}..."
