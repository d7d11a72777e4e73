"""`xface predict`."""

from __future__ import annotations

from pathlib import Path

import click

from .batch import each_image, print_json
from .cautions import say_cautions, say_notes
from .options import IMAGES, JSON, detector_options


@click.command(epilog="Example: xface predict --json faces/ 'more/*.png'")
@detector_options
@JSON
@IMAGES
def predict(
    images: tuple[str, ...],
    arch: str | None,
    weights: str | None,
    state_key: str | None,
    positive: str | None,
    device: str,
    face_detector: str,
    as_json: bool,
) -> None:
    """Classify images as real or fake: files, folders, globs."""
    import xface
    from xface.data.labelled_pictures import find_listed
    from xface.errors import XFaceError
    from xface.evaluation.scoring import predictions
    from xface.wording import printable, verdict

    found = find_listed(images)
    say_notes(found.notes)
    detector = xface.load(weights, arch, device, state_key, positive, face_detector)
    say_cautions(detector)

    verdicts = predictions(detector, [str(path) for path in found.paths])

    def job(index: int, path: Path) -> None:
        prediction = next(verdicts)
        if isinstance(prediction, XFaceError):
            raise prediction
        if as_json:
            named = {"image": str(path), "detector": detector.to_json()}
            print_json({**named, "prediction": prediction.to_json(), "notes": list(prediction.notes)})
        else:
            notes = "".join(f" ({note})" for note in prediction.notes)
            click.echo(f"{printable(str(path))}: {verdict(prediction)}{notes}")

    each_image(found.paths, job, as_json)
    if not as_json:
        click.echo(f"detector: {detector.arch.name}, card {detector.card.source}", err=True)
