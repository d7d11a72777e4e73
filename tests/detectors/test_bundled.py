"""The bundled detectors are found from a checkout and from a wheel, whatever the working directory."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import ROOT

PARTS = ("cli", "weights", "xface", "setup.py", "pyproject.toml", "README.md", "LICENSE")
QUESTION = """
import xface
from xface.detectors.bundled import bundled
print(xface.__file__)
print(bundled()["meso4"])
print(xface.load().card.source)
"""


def ask(folder: Path, cwd: Path) -> list[Path]:
    """Where a fresh interpreter with `folder` first on its path finds xface and the weights."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    answer = subprocess.run(
        [sys.executable, "-c", QUESTION], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    *found, source = answer.stdout.splitlines()
    assert source == "bundled:meso4"
    return [Path(line).resolve() for line in found]


def test_from_a_checkout(tmp_path: Path) -> None:
    package, weights = ask(ROOT, tmp_path)
    assert package == ROOT / "xface" / "__init__.py"
    assert weights == ROOT / "weights" / "meso4.safetensors"


@pytest.mark.slow
def test_from_a_wheel(tmp_path: Path) -> None:
    """Built from a copy, so that nothing is left in the checkout, and unpacked as an installer would."""
    source, site = tmp_path / "source", tmp_path / "site"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / part, source / part)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        "dist",
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [wheel] = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    shutil.rmtree(source)
    package, weights = ask(site, tmp_path)
    assert package == site / "xface" / "__init__.py"
    assert weights == site / "xface_weights" / "meso4.safetensors"
