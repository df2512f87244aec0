"""Store: the engines of one vehicle, which of them is current, and which one was before it.

    ROOT/state.json        current and previous, replaced in one rename: the only truth
    ROOT/engines/<id>/     an engine with everything of its bundle; never changed once it is there
    ROOT/keys/*.pub        whose bundles are taken; none: everybody's
    ROOT/timing/           the builder's timing caches
    ROOT/.staging.*        what is being installed; removed by the next installation when it died

At every moment state.json names an engine folder that is whole: folders appear under their names
by one rename, after all of their bytes are on the disk, and go only when the state no longer names
them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError
from trt_lane.files import write_bytes
from trt_lane.sealed_json import seal, unseal

SCHEMA = 1
STATE = "state.json"
ROOT_VARIABLE = "TRT_LANE_ROOT"
SYSTEM_ROOT = Path("/var/lib/trt_lane")
_ID = re.compile(r"[0-9]{6}-[A-Za-z0-9_.-]{1,80}")


@dataclass(frozen=True)
class State:
    """Which engine runs, and which one ran before it; None where there is none."""

    current: str | None = None
    previous: str | None = None

    def __post_init__(self) -> None:
        for name in (self.current, self.previous):
            if name is not None and (not isinstance(name, str) or not _ID.fullmatch(name)):
                raise ValueError(f"{name!r} is no engine's name")


def default_root() -> Path:
    """TRT_LANE_ROOT, else /var/lib/trt_lane where it is, else a folder of the user's."""
    given = os.environ.get(ROOT_VARIABLE)
    if given:
        return Path(given).expanduser()
    if SYSTEM_ROOT.is_dir():
        return SYSTEM_ROOT
    return Path.home() / ".local" / "share" / "trt_lane"


class Store:
    """The folder with a vehicle's engines. Methods that change it want `locked`."""

    def __init__(self, root: Path | None = None) -> None:
        # Absolute: programs that build here run in other folders.
        self.root = (default_root() if root is None else root.expanduser()).absolute()
        self.engines = self.root / "engines"

    # -- reading ------------------------------------------------------------------------------

    def state(self) -> State:
        """What is current; a TrtLaneError when the state's file is damaged."""
        path = self.root / STATE
        try:
            values = unseal(path.read_bytes())
            if values.pop("schema") != SCHEMA:
                raise ValueError("it is of another version of trt_lane")
            return State(**values)
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrtLaneError(
                f"cannot read {path}: {error}; run: trt-lane install BUNDLE"
            ) from None

    def current_folder(self) -> Path:
        """The folder of the engine that is current; a TrtLaneError when there is none."""
        state = self.state()
        if state.current is None:
            raise TrtLaneError(
                f"no engine is installed in {self.root}; run: trt-lane install BUNDLE"
            )
        return self.engines / state.current

    def current(self) -> EngineArtifact:
        """The current engine, its files verified."""
        return EngineArtifact.load(self.current_folder())

    def keys(self) -> list[Path]:
        """Public keys of those whose bundles this vehicle takes.

        Raises:
            TrtLaneError: there are some that cannot be read, which is not the same as none.
        """
        folder = self.root / "keys"
        if not os.path.lexists(folder):
            return []
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            raise TrtLaneError(f"cannot read {folder}: {error.strerror}") from None
        keys = [path for path in found if path.suffix == ".pub"]
        if found and not keys:
            raise TrtLaneError(
                f"{folder} holds {found[0].name} and no *.pub; a public key is taken by the name "
                "KEY.pub, so rename it, or take the folder away to accept everybody's bundles"
            )
        return keys

    # -- changing -----------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store; a second installation is refused, a dead one's lock is nobody's."""
        try:
            self.engines.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise TrtLaneError(
                f"cannot write to {self.root}: {error.strerror}; "
                f"run it with the right to, or choose another --root"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TrtLaneError(
                    f"another installation or rollback is running in {self.root}; wait for it"
                ) from None
            yield
        finally:
            os.close(handle)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder beside the engines; what is still in it at the end is removed."""
        folder = Path(tempfile.mkdtemp(prefix=".staging.", dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, staging: Path, label: str) -> str:
        """Make a whole staged folder an engine of the store; it is not current yet."""
        numbers = [int(p.name[:6]) for p in self.engines.iterdir() if _ID.fullmatch(p.name)]
        name = f"{max(numbers, default=0) + 1:06d}-{re.sub('[^A-Za-z0-9_.-]', '_', label)[:80]}"
        for folder, _, files in os.walk(staging):
            for file in files:
                _sync(Path(folder) / file)
            _sync(Path(folder))
        os.chmod(staging, 0o755)
        os.rename(staging, self.engines / name)
        _sync(self.engines)
        return name

    def switch(self, name: str) -> State:
        """Make an adopted engine the current one; the one before is kept."""
        before = self.state_or_nothing()
        return self._write(State(current=name, previous=before.current))

    def rollback(self, accept: Callable[[EngineArtifact], object] = lambda artifact: None) -> State:
        """Make the previous engine current, whose files are verified first.

        Args:
            accept: raises for an engine that this machine cannot run; then nothing changes.
        """
        state = self.state()
        if state.previous is None:
            raise TrtLaneError(f"{self.root} holds no engine before the current one")
        accept(EngineArtifact.load(self.engines / state.previous))
        return self._write(State(current=state.previous, previous=state.current))

    def sweep(self) -> None:
        """Remove what the state does not name: dead installations, engines before the last."""
        try:
            state = self.state()
            kept = {state.current, state.previous}
        except TrtLaneError:  # nobody knows which engine is the good one, so none goes
            kept = {folder.name for folder in self.engines.iterdir()}
        for folder in self.root.glob(".staging.*"):
            shutil.rmtree(folder, ignore_errors=True)
        for stray in self.root.glob(f".{STATE}.*"):
            with suppress(OSError):
                stray.unlink()
        for folder in self.engines.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def state_or_nothing(self) -> State:
        """The state; a damaged one counts as none, so that an installation mends it."""
        try:
            return self.state()
        except TrtLaneError:
            return State()

    def _write(self, state: State) -> State:
        values = {"schema": SCHEMA, "current": state.current, "previous": state.previous}
        write_bytes(self.root / STATE, seal(values))
        _sync(self.root)
        return state


def _sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
