"""The size and shape of the project: lines, the largest package, circles, docstrings; what the tests cost.

python benchmarks/house.py [--tests] [--coverage] [--out FILE]

`--tests` also times `pytest --collect-only` and the tests that `make test` runs; `--coverage` runs them under
coverage.py (pip install coverage) for the branches that they take. Both take minutes.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
ARRAYS = re.compile(r"\b(FloatArray|ByteArray|NDArray|ndarray|Tensor|Mask|Codes|IndexArray)\b")
SHAPE = re.compile(r"\((\.\.\.|[A-Za-z]\w{0,9}|\d+)(, ?([A-Za-z]\w{0,9}|\d+|\.\.\.))*,?\)")
UNIT = re.compile(r"\b(pixels?|degrees|radians|per image|an image each|any shape|probabilit(y|ies)|0 to 1)\b")
PYTEST = [sys.executable, "-m", "pytest"]


def lines(*folders: str) -> int:
    """All lines of the Python files in folders."""
    return sum(len(path.read_text().splitlines()) for folder in folders for path in sources(folder))


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def largest_package() -> tuple[str, float]:
    """The package with most lines, and its part of the library."""
    packages = [path.name for path in (ROOT / "xface").iterdir() if path.is_dir()]
    counts = {name: lines(f"xface/{name}") for name in packages}
    name = max(counts, key=lambda each: counts[each])
    return name, counts[name] / lines("xface")


def circles() -> int:
    """How many files import each other in a circle, imports for type checkers included."""
    graph = grimp.build_graph("xface", "xface_cli", cache_dir=None)
    chained = {module: graph.find_upstream_modules(module) for module in graph.modules}
    return sum(any(module in chained[other] for other in chained[module]) for module in chained)


def takers_of_arrays() -> Iterator[tuple[str, bool]]:
    """Each public function that takes arrays, and whether its docstring, or its class's, says shapes."""
    for path in sources("xface"):
        if not path.stem.startswith("_"):
            tree = ast.parse(path.read_text())
            where = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield from _of_body(tree, where, "")


def _of_body(parent: ast.Module | ast.ClassDef, where: str, said: str) -> Iterator[tuple[str, bool]]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        docstring = said + (ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            yield from _of_body(node, f"{where}.{node.name}", docstring)
        elif any(ARRAYS.search(ast.unparse(each.annotation)) for each in node.args.args if each.annotation):
            yield f"{where}.{node.name}", bool(SHAPE.search(docstring) or UNIT.search(docstring))


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([*PYTEST, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def branch_coverage() -> float:
    """The part of the branches that the quick tests take, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "data"), Path(folder, "report.json")
        run = [sys.executable, "-m", "coverage", "run", "--branch", "--source=xface,xface_cli"]
        tests = ["-m", "pytest", "-m", "not slow"]
        subprocess.run([*run, f"--data-file={data}", *tests], cwd=ROOT, check=True)
        to_json = [sys.executable, "-m", "coverage", "json", f"--data-file={data}", "-o", str(report)]
        subprocess.run(to_json, cwd=ROOT, check=True)
        totals = json.loads(report.read_text())["totals"]
        return 100 * float(totals["covered_branches"]) / float(totals["num_branches"])


def figures(tests: bool, coverage: bool) -> dict[str, object]:
    name, part = largest_package()
    takers = list(takers_of_arrays())
    found: dict[str, object] = {
        "lines of xface/ and cli/": lines("xface", "cli"),
        "lines of tests/": lines("tests"),
        "largest package": f"{name}, {part:.1%} of the library",
        "files that import each other in a circle": circles(),
        "functions of arrays": len(takers),
        "of these, whose docstrings say shapes or units": sum(said for _, said in takers),
        "of these, whose docstrings do not": [name for name, said in takers if not said],
    }
    if tests:
        found["seconds to collect the tests"] = round(seconds("--collect-only"), 1)
        found["seconds of `make test`"] = round(seconds("-m", "not slow", "-n", "2", "--dist", "loadfile"), 1)
    if coverage:
        found["branches taken by the quick tests, %"] = round(branch_coverage(), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="time the tests too")
    parser.add_argument("--coverage", action="store_true", help="measure the branches that the tests take")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    found = figures(given.tests, given.coverage)
    for name, value in found.items():
        shown = value if not isinstance(value, list) else f"{len(value)}: {', '.join(value[:40])}"
        print(f"{name:60s} {shown}")
    if given.out:
        given.out.write_text(f"{json.dumps(found, indent=2)}\n")


if __name__ == "__main__":
    main()
