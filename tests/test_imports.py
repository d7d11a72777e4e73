"""Who imports whom, read from the sources: imports go down the floors, never up or sideways."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "xface").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])

GROUND = {
    "errors", "files", "json_text", "registry", "results", "images",
    "csv_files", "written_paths", "picture_files", "file_kinds",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "registry": {"errors"},
    "results": {"errors"},
    "images": {"errors", "registry", "results", "file_kinds", "image_limits"},
    "files": {"errors"},
    "json_text": {"errors", "files"},
    "file_kinds": set(),
    "csv_files": {"files"},
    "written_paths": {"csv_files"},
    "picture_files": {"errors", "files", "images", "file_kinds"},
    "provenance": set(),
    "grids": {"errors"},
    "layouts": {"errors", "grids"},
    "models": {*GROUND, "grids", "layouts", "provenance"},
    "attribution": {"errors", "registry", "results", "grids", "layouts", "provenance"},
    "faces": GROUND,
    "runs": {"errors"},
    "report": {*GROUND, "runs"},
    "explanation": {*GROUND, "models", "attribution", "faces", "report"},
    "data": {*GROUND, "runs", "models", "faces"},
    "loading": {*GROUND, "models", "data"},
    "analysis": {*GROUND, "runs", "models", "data", "report", "faces", "attribution", "explanation"},
    "training": {*GROUND, "runs", "models", "data"},
}
"""Below `explanation` a row lists what lies lower; a part that isn't in it may import anything but `cli`."""

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
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy"}


def trees():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST, package: str) -> set[str]:
    """Full names of all that a file imports anywhere, relative imports resolved, `from a import b` as a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def at_the_top(tree: ast.Module) -> set[str]:
    """What importing a file imports at once: not in functions, not for type checkers alone."""
    body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imported(ast.Module(body, []), "")


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts[:-1])


def part_of(path: Path) -> str:
    """The part that a file belongs to: `models` for xface/models/card.py, `xface` for xface/__init__.py."""
    parts = path.relative_to(ROOT / "xface").with_suffix("").parts
    return "xface" if parts == ("__init__",) else parts[0]


LIBRARY = [(path, tree) for path, tree in trees() if path.is_relative_to(ROOT / "xface")]


def test_the_walk_sees_the_project():
    assert {part_of(path) for path, _ in LIBRARY} >= {*MAY_IMPORT, "xface"}
    assert imported(ast.parse("from . import a\nfrom ..b import c\nimport d.e"), "x.y") == {
        "x.y.a",
        "x.b.c",
        "d.e",
    }


@pytest.mark.parametrize(("path", "tree"), LIBRARY, ids=[label(path) for path, _ in LIBRARY])
def test_imports_go_down(path, tree):
    part = part_of(path)
    parts = {name.split(".")[1] for name in imported(tree, package_of(path)) if name.startswith("xface.")}
    known = {p for p in parts if (ROOT / "xface" / p).is_dir() or (ROOT / "xface" / f"{p}.py").is_file()}
    if part in MAY_IMPORT:
        assert known <= MAY_IMPORT[part] | {part}


@pytest.mark.parametrize(("path", "tree"), LIBRARY, ids=[label(path) for path, _ in LIBRARY])
def test_the_library_knows_no_command_line(path, tree):
    roots = {name.split(".")[0] for name in imported(tree, package_of(path))}
    assert not roots & {"xface_cli", "cli", "click", "argparse"}


def test_the_report_and_the_ground_need_no_network_library():
    for path, tree in LIBRARY:
        if part_of(path) in {*GROUND, "report"}:
            roots = {name.split(".")[0] for name in imported(tree, package_of(path))}
            assert not roots & (HEAVY - {"matplotlib"}), label(path)


def test_attribution_sees_plain_modules_and_tensors():
    for path, tree in LIBRARY:
        if part_of(path) == "attribution":
            roots = {name.split(".")[0] for name in imported(tree, package_of(path))}
            assert not roots & {"dlib", "cv2", "PIL", "pandas", "matplotlib"}, label(path)


def test_the_command_line_imports_the_library_by_its_name_and_nothing_heavy_at_the_top():
    for path, tree in trees():
        if path.is_relative_to(ROOT / "cli"):
            outside = {node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert max(outside, default=0) <= 1, label(path)
            top = at_the_top(tree)
            assert not {name.split(".")[0] for name in top} & HEAVY, label(path)
            ours = {name for name in top if name.startswith("xface.")}
            assert all(name == "xface.__version__" or name.startswith("xface.errors.") for name in ours), (
                label(path)
            )


def calls(tree: ast.AST):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_only_the_command_line_prints_or_exits():
    for path, tree in LIBRARY:
        for call in calls(tree):
            name = ast.unparse(call.func)
            assert name not in {"print", "exit", "quit", "sys.exit", "os._exit", "input"}, label(path)
            assert not name.startswith(("sys.stdout", "sys.stderr")), label(path)


def test_nothing_runs_code_from_a_file():
    for path, tree in trees():
        names = imported(tree, package_of(path))
        assert not {name.split(".")[0] for name in names} & UNSAFE_MODULES, label(path)
        assert not names & {"torch.load", "torch.serialization.load", "numpy.load"}, label(path)
        for call in calls(tree):
            name = ast.unparse(call.func)
            assert name not in UNSAFE_CALLS, f"{label(path)}:{call.lineno}"
            if name == "torch.load" or (name.endswith(".load") and "torch" in name):
                assert safe_load(call), f"{label(path)}:{call.lineno}"
            if name in {"np.load", "numpy.load"}:
                assert "allow_pickle" not in {keyword.arg for keyword in call.keywords}, label(path)


def safe_load(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    flag = given.get("weights_only")
    return isinstance(flag, ast.Constant) and flag.value is True


def test_weights_are_loaded_somewhere_so_that_the_test_above_tests():
    loads = [c for _, tree in trees() for c in calls(tree) if ast.unparse(c.func) == "torch.load"]
    assert loads


def test_no_module_bears_the_name_of_a_public_function():
    import xface

    assert not {path.stem for path, _ in LIBRARY if path.parent == ROOT / "xface"} & set(xface.__all__)


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
        "import xface.errors, xface.registry, xface.detectors, xface.faces",
        command("--help"),
        command("explain", "--help"),
    ],
    ids=["xface", "packages", "--help", "explain --help"],
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
