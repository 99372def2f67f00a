"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# The same cases on every run: a run that fails by chance helps nobody. `--hypothesis-profile=default` looks for new ones.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# One thread for each library: the tests themselves run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data, unpacked under .data/ of the repository (CODEDEV_DATA names another place)."""
    path = Path(os.environ.get("CODEDEV_DATA", ROOT / ".data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}")
    return path
