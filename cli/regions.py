"""`xface regions`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import each_image, print_json
from .cautions import say_cautions, say_notes
from .explaining import explainer
from .face_finder import face_finder
from .options import IMAGES, JSON, detector_options, map_options

if TYPE_CHECKING:
    from xface.analysis.region_means import RegionTable
    from xface.evidence.explained import EffectKind
    from xface.explanation import Explanation
    from xface.report import SavedChart

EPILOG = """\b
Examples:
  xface regions samples/fake.jpg
  xface regions --method gradcam --layer all --target fake --out run1 faces/
  xface regions --json --weights mine.pth 'faces/*.png' > regions.jsonl
"""


@click.command(epilog=EPILOG)
@detector_options
@map_options
@click.option(
    "--out", default="results", show_default=True, metavar="DIR", help="The folder for charts and tables."
)
@click.option("--format", "table_format", type=click.Choice(["csv", "parquet"]), default="csv",
              show_default=True, help="File format of the tables over several images.")  # fmt: skip
@JSON
@IMAGES
def regions(
    images: tuple[str, ...],
    arch: str | None,
    weights: str | None,
    state_key: str | None,
    positive: str | None,
    device: str,
    face_detector: str,
    layers: tuple[str, ...],
    methods: tuple[str, ...],
    target: str,
    effects: EffectKind | None,
    landmarks: str | None,
    out: str,
    table_format: str,
    as_json: bool,
) -> None:
    """Sum a detector's maps over the regions of the face: a table and a bar chart per image, without labels.

    IMAGES are files, folders or globs; methods and layers are chosen as in `xface explain`. Several images
    also give a table `regions`, a row per image, map and region, and as table and chart `regions-mean`, the
    means over images, with how many were left out; so do `effects` and `effects-mean` for what hiding each
    region does, with how often it changes the verdict.
    """
    import xface
    from xface.analysis.region_means import RegionTable
    from xface.data.labelled_pictures import find_listed
    from xface.detectors.requests import checked
    from xface.report import ensure_folder, save_chart

    pictures = find_listed(images)
    say_notes(pictures.notes)
    face_of = face_finder(landmarks, face_detector, len(pictures))
    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    request = (methods or None, layers or None, target)
    checked(detector, *request)
    ensure_folder(out)
    table = RegionTable()

    explain_next = explainer(detector, pictures.paths, request, face_of, effects)

    def job(index: int, path: Path) -> None:
        found = explain_next()
        _say(found, save_chart(found, out, index), as_json)
        table.add(found)

    def conclude() -> None:
        if len(pictures) > 1:
            table.save(Path(out), table_format)
            _say_means(table, out, as_json)

    say_cautions(detector)
    each_image(pictures.paths, job, as_json, conclude)


def _say(found: Explanation, chart: SavedChart | None, as_json: bool) -> None:
    from xface.report import as_text
    from xface.wording import printable

    if chart and chart.replaced:
        click.echo(f"xface: {found.image!r}: replaced an earlier chart", err=True)
    if as_json:
        print_json({**found.to_json(), "chart": str(chart.path) if chart else None})
        return
    where = f"\n\nchart: {printable(str(chart.path))}" if chart else ""
    click.echo(f"{as_text(found)}{where}\n")


def _say_means(table: RegionTable, out: str, as_json: bool) -> None:
    """Print the mean table, what it leaves out, and a warning where classes mix."""
    from xface.analysis.effect_means import effect_means, mean_effect_table
    from xface.analysis.region_means import left_out, mean_measures, region_means
    from xface.report import measure_table
    from xface.wording import method_at, printable

    means, labels, hidden = region_means(table.rows), table.labels, table.effects
    if not as_json and hidden is not None:
        click.echo(f"mean effects over images\n\n{mean_effect_table(effect_means(hidden))}\n")
    if not as_json and (measures := mean_measures(means)):
        click.echo(f"mean over images\n\n{measure_table(measures)}")
        for (method, layer), words in left_out(means).items():
            click.echo(f"{method_at(method, layer)}: {words}")
    if len(labels) > 1:
        mixed = ", ".join(f"{name} in {count:,} images" for name, count in labels.items())
        say_notes((f"the maps explain {mixed}; --target CLASS makes means of one class",))
    click.echo(f"tables and mean chart: {printable(out)}", err=True)
