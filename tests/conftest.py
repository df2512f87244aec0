"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every program
# that they start to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real frames, weights and official results beside the project."""
    if not SHARED.is_dir():
        pytest.skip("real data is not here: no folder ../shared beside the project")
    return SHARED
