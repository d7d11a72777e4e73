import os

# Small tensors, and often two test processes at once: threads that wait for each other cost more than they
# bring. It must be set before torch is loaded, and commands that the tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from unbroken_runs import place  # noqa: F401

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party test data, which is no part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"test data absent: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """A cache folder of the tests' own: no face is known from another run of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="Rewrite tests/golden/.")
