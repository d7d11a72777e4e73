"""`xface explain`."""

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
    from xface.evidence.explained import EffectKind
    from xface.explanation import Explanation
    from xface.report import SavedFiles

EPILOG = """\b
Examples:
  xface explain samples/fake.jpg
  xface explain --method gradcam --method guided --layer all --out run1 faces/
  xface explain --weights mine.pth --target fake --json 'faces/*.png' > faces.jsonl
"""


@click.command(epilog=EPILOG)
@detector_options
@map_options
@click.option(
    "--out", default="results", show_default=True, metavar="DIR", help="The folder for pictures and maps."
)
@click.option("--maps", is_flag=True, help="Also write the raw float32 maps, an npz file per image.")
@JSON
@IMAGES
def explain(
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
    maps: bool,
    as_json: bool,
) -> None:
    """Show by which parts of a face a detector decides, and where it looks: effects, maps, pictures, tables.

    IMAGES are files, folders or globs. Each region of the face is hidden in turn, to see what the verdict
    does. Without --method the five core methods are computed, or those of them that the network defines;
    without --layer the architecture's recommended layer is taken.
    """
    import xface
    from xface.data.labelled_pictures import find_listed
    from xface.detectors.requests import checked
    from xface.report import ensure_folder

    pictures = find_listed(images)
    say_notes(pictures.notes)
    face_of = face_finder(landmarks, face_detector, len(pictures))
    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    request = (methods or None, layers or None, target)
    checked(detector, *request)
    ensure_folder(out)

    explain_next = explainer(detector, pictures.paths, request, face_of, effects)

    def job(index: int, path: Path) -> None:
        found = explain_next()
        files = found.save(out, index, maps)
        print_json(found.to_json(files)) if as_json else _print(found, files)
        if files.replaced:
            click.echo(f"xface: {found.image!r}: replaced {files.replaced} earlier files", err=True)

    say_cautions(detector)
    each_image(pictures.paths, job, as_json)


def _print(found: Explanation, files: SavedFiles) -> None:
    from xface.report import as_text
    from xface.wording import printable

    click.echo(f"{as_text(found)}\n\npanel: {printable(str(files.panel))}\n")
