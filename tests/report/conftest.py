"""A browser for the tests of pages, and what a reader of a page sees of it."""

import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def browser_path() -> str:
    found = os.environ.get("XFACE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell, or set XFACE_CHROMIUM to one")
    return found


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = browser_path()
    with playwright.sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return files(package).joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader() -> str:
    """A script that finds text that is cut, and how well letters are told from their ground."""
    return Path(__file__).with_name("reader.js").read_text(encoding="utf-8")
