"""`xface doctor`."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from xface.faces import ModelFile

COMPILED = {"torch": "torch torchvision", "dlib": "dlib-bin", "cv2": "opencv-python-headless"}
"""Modules that may be installed and yet not load, and the packages that bring them."""

Check = tuple[bool, str, str]
"""(whether it is well, what was found, what to do; empty where what was found says it)"""


@click.command(epilog="Exit status: 0 if all is well, 1 if something is missing or wrong.")
def doctor() -> None:
    """Check what is installed, which device there is, and which face detectors can be used."""
    checks = [*_packages(), *_imports(), *_devices(), *_face_detectors(), *_weights()]
    click.echo(f"Python {platform.python_version()}, {platform.platform()}")
    for well, found, remedy in checks:
        click.echo(f"[{'ok' if well else '!!'}] {found}{f': {remedy}' if remedy and not well else ''}")
    if not all(well for well, _, _ in checks):
        sys.exit(1)


def _packages() -> Iterator[Check]:
    """What xface depends on, as its own metadata say."""
    try:
        wanted = [entry for entry in requires("xface") or () if "extra ==" not in entry]
    except PackageNotFoundError:
        yield False, "xface is not installed, only found on Python's path", "pip install . in its folder"
        return
    for name in (re.split(r"[^\w.-]", entry)[0] for entry in wanted):
        try:
            yield True, f"{name} {version(name)}", ""
        except PackageNotFoundError:
            yield False, f"{name} is missing", f"pip install {name}"


def _imports() -> Iterator[Check]:
    for module, packages in COMPILED.items():
        try:
            import_module(module)
        except (ImportError, OSError) as error:
            yield False, f"{module} cannot be imported ({error})", f"pip install --force-reinstall {packages}"


def _devices() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError):
        return  # which `_imports` reports
    yield True, f"CPU with {torch.get_num_threads()} threads", ""
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield True, f"CUDA: {', '.join(names)}" if names else "no CUDA device; `--device auto` takes the CPU", ""


def _face_detectors() -> Iterator[Check]:
    """The model files, and whether each detector can search a picture."""
    from xface.faces import LANDMARKERS

    models = {model: _file(model) for entry in LANDMARKERS.values() for model in entry.models}
    yield from models.values()
    for name, entry in LANDMARKERS.items():
        sound = all(models[model][0] for model in entry.models)
        reason = _failure(name) if sound else "a model file is missing or wrong"
        usable = f"cannot be used ({reason})" if reason else "can be used"
        yield not reason, f"face detector {name} {usable}", ""


def _file(model: ModelFile) -> Check:
    from xface.errors import LandmarkError

    try:
        well = model.is_intact()
        return well, f"{model.path()}, SHA-256 {'right' if well else 'wrong'}", model.remedy
    except LandmarkError as error:
        return False, str(error), ""


def _failure(detector: str) -> str:
    """Why a face detector cannot search; "" if it can."""
    import numpy as np

    from xface.faces import find_face

    try:
        find_face(np.zeros((96, 96, 3), np.uint8), detector)
    except Exception as error:  # it may be another's, and raise anything
        return str(error) or type(error).__name__
    return ""


def _weights() -> Iterator[Check]:
    from xface.detectors.bundled import bundled
    from xface.errors import XFaceError

    if not bundled():
        yield False, "no bundled detector", "reinstall xface"
    for name in bundled():
        try:
            from xface.detectors import load

            yield True, f"bundled detector {load(name, device='cpu')}", ""
        except (XFaceError, ImportError, OSError) as error:
            yield False, f"bundled detector {name} cannot be restored ({error})", "reinstall xface"
