"""What is installed is what was tested: requirements.txt pins all that pyproject.toml asks for."""

import itertools
import re
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PINS = re.split(r"\n(?=\S)", LOCK.partition("make lock\n")[2])


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_all_that_is_wanted_is_pinned_once_in_its_range(python):
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    pins = [Requirement(pin.partition(" \\")[0]) for pin in PINS]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    version = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(version) == len(pins)
    for wanted in map(Requirement, WANTED):
        assert version[canonicalize_name(wanted.name)] in wanted.specifier, "make lock"


def test_a_pin_is_a_version_and_its_hashes():
    """No address, folder or option of the machine that made it."""
    whole = re.compile(r"[\w.-]+==[\w.]+( ; [\w .<>!='()*]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+\n?")
    assert [pin for pin in PINS if not whole.fullmatch(pin)] == []


def test_what_xface_depends_on_is_what_it_imports():
    """What only tests and benchmarks import belongs to an extra."""
    files = [file for folder in ("xface", "cli") for file in (ROOT / folder).rglob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"^\s*(?:from|import) (\w+)|(?<=find_spec\(\")(\w+)", source, re.MULTILINE)
    packages = {"dlib": ["dlib-bin"], **packages_distributions()}  # whose wheel is one compiled module
    used = {canonicalize_name(name) for each in found for name in packages.get("".join(each), ())}
    assert {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]} <= used
