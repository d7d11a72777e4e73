"""What importing costs; `make lint` checks who imports whom, and that no code from outside is run."""

import importlib
import os
import pkgutil
import subprocess
import sys

import pytest
from project import ROOT
from xface_cli.main import COMMANDS

import xface

HEAVY = {"torch", "torchvision", "captum", "pytorch_grad_cam", "dlib", "cv2", "matplotlib", "pandas", "scipy",
         "sklearn", "statsmodels", "lightning", "torchinfo"}  # fmt: skip


def test_no_module_bears_the_name_of_a_public_function():
    packages = [m.name for m in pkgutil.walk_packages(xface.__path__, "xface.") if m.ispkg]
    for name in ("xface", *packages):
        package = importlib.import_module(name)
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(getattr(package, "__all__", ())), name


def test_no_array_is_unpickled():
    """Of torch's files ruff's S614 takes care."""
    sources = [*(ROOT / "xface").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert [path for path in sources if "allow_pickle" in path.read_text(encoding="utf-8")] == []


def ask(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = f"import sys; print([name for name in sorted({HEAVY}) if name in sys.modules])"


def command(*words: str) -> str:
    return f"""
import contextlib, io, sys
from xface_cli.main import main
sys.argv = ["xface", *{words}]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
    main()
assert "Usage: " in out.getvalue()
"""


@pytest.mark.parametrize(
    "code",
    [
        "import xface, xface.analysis, xface.data, xface.detectors, xface.evaluation, xface.faces, "
        "xface.training, xface.networks.zoo, xface.errors, xface.registry",
        "\n".join(command(*words) for words in (["--help"], *([name, "--help"] for name in COMMANDS))),
    ],
    ids=["packages", "help of every command"],
)
def test_nothing_heavy_is_loaded_by(code):
    assert ask(f"{code}\n{LOADED}").strip() == "[]"
