from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party test data, which is no part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"test data absent: {SHARED_DATA}")
    return SHARED_DATA
