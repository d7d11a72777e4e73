"""What importing costs, and what a linter cannot see; `make lint` checks who imports whom."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

import xface

SOURCES = sorted([*(ROOT / "xface").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
HEAVY = {
    "torch",
    "torchvision",
    "captum",
    "pytorch_grad_cam",
    "dlib",
    "cv2",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "statsmodels",
    "lightning",
    "torchinfo",
}
UNSAFE_MODULES = {"dill", "cloudpickle", "joblib", "runpy"}  # beside what ruff's S rules know
LOADERS = {"torch.load", "torch.serialization.load", "numpy.load"}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> set[str]:
    """All that a file imports from elsewhere, `from a import b` as a.b."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def trees():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES]


def test_the_command_line_imports_nothing_heavy_at_the_top():
    for path, tree in trees():
        if path.is_relative_to(ROOT / "cli"):
            body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            top = imported(ast.Module(body, []))
            assert not {name.split(".")[0] for name in top} & HEAVY, label(path)
            ours = {name for name in top if name.startswith("xface.")}
            assert all(name == "xface.__version__" or name.startswith("xface.errors.") for name in ours), (
                label(path)
            )


def test_the_library_neither_prints_nor_exits():
    for path, tree in trees():
        if path.is_relative_to(ROOT / "xface"):
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                name = ast.unparse(call.func)
                assert name not in {"print", "exit", "quit", "sys.exit", "os._exit", "input"}, label(path)
                assert not name.startswith(("sys.stdout", "sys.stderr")), label(path)


def test_weights_and_arrays_are_loaded_without_running_code():
    loads = 0
    for path, tree in trees():
        names = imported(tree)
        assert not names & LOADERS, label(path)
        assert not {name.split(".")[0] for name in names} & UNSAFE_MODULES, label(path)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if ast.unparse(call.func) == "torch.load":
                loads += 1
                flag = given.get("weights_only")
                assert isinstance(flag, ast.Constant), f"{label(path)}:{call.lineno}"
                assert flag.value is True, f"{label(path)}:{call.lineno}"
            assert "allow_pickle" not in given, f"{label(path)}:{call.lineno}"
    assert loads


def test_no_module_bears_the_name_of_a_public_function():
    packages = [m.name for m in pkgutil.walk_packages(xface.__path__, "xface.") if m.ispkg]
    for name in ("xface", *packages):
        package = importlib.import_module(name)
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(getattr(package, "__all__", ())), name


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
        "import xface",
        "import xface.analysis, xface.data, xface.detectors, xface.evaluation, xface.faces, xface.training",
        "import xface.networks.zoo, xface.errors, xface.registry",
        command("--help"),
        command("explain", "--help"),
    ],
    ids=["xface", "packages", "zoo", "--help", "explain --help"],
)
def test_nothing_heavy_is_loaded_by(code):
    assert ask(f"{code}\n{LOADED}").strip() == "[]"


def test_a_report_is_drawn_without_torch_dlib_or_opencv():
    code = """
import sys
for name in ("torch", "dlib", "cv2", "pandas"):
    sys.modules[name] = None
import numpy as np
from xface.report import as_html, draw_panel, draw_picture, region_table
from xface.results import AttributionMap, Face, Findings, Prediction
amap = AttributionMap("gradcam", "layer4", "ok", "published", np.ones((7, 7), np.float32))
found = Findings(
    image="a.jpg", view=np.zeros((32, 32, 3), np.uint8), detector={"arch": "net", "card": {"source": "x"}},
    trained=True, prediction=Prediction("fake", 1.0, {"fake": 1.0}), target="predicted", label="fake",
    face=Face(False), landmarks=None, outlines=(), maps=(amap,), regions=())
print(draw_picture(found, amap).shape[1], len(as_html(found)) > 1000, region_table(found))
"""
    assert ask(code).split(maxsplit=2) == ["512", "True", "regions: no face\n"]
