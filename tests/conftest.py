"""Fixtures that every test may use."""

from __future__ import annotations

import signal
import sys
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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """PyTorch on one core: the tests' networks are small, and several runs may share a machine."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
