"""A long run's state on disk, so that one that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import torch

from trt_lane.files import atomic_write


class Checkpoint:
    """One file; None as path keeps nothing.

    A file of another run (another network, recipe, seed or data) or a damaged one is ignored.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path = path
        self._identity = hashlib.sha256(identity.encode()).hexdigest()

    def load(self) -> dict | None:
        """The state, or None when there is none for this run."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            held = torch.load(self.path, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
            return None
        fits = isinstance(held, dict) and held.get("identity") == self._identity
        return held["state"] if fits else None

    def save(self, state: dict) -> None:
        """Write atomically."""
        if self.path is not None:
            with atomic_write(self.path) as file:
                torch.save({"identity": self._identity, "state": state}, file)
