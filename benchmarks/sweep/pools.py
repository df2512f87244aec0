"""Where tasks run: processes of this machine, or a Ray cluster. A worker that dies costs no result.

A pool's `run` takes a function of a module and the arguments of each call; it yields (index, value)
as calls end, in any order, and (index, Failure) for those that cannot be done.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from trt_lane.errors import TrtLaneError

# So often all workers are started anew before calls are run one by one, to find the one that kills.
BREAKS = 3
RAY_RETRIES = 3
LARGE_BYTES = 1 << 20
REACH_S = 5.0
REASON_CHARACTERS = 300
ROOT = Path(__file__).resolve().parents[2]
NOT_SENT = (".git", ".venv", "build", "docs", "tests", "dist")


@dataclass(frozen=True)
class Failure:
    """Why a call has no result, in one line."""

    reason: str


class Pool(Protocol):
    """Runs calls somewhere."""

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple]
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the call, its value or a Failure) as they end."""
        ...


class LocalPool:
    """So many processes of this machine."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise TrtLaneError(f"jobs is {jobs}; expected 1 or more")
        self.jobs = jobs

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple]
    ) -> Iterator[tuple[int, Any]]:
        """As Pool.run; calls that were lost with a worker are made again."""
        left = dict(enumerate(calls))
        for _ in range(BREAKS):
            if not left:
                return
            for index, value in self._attempt(function, left, self.jobs):
                del left[index]
                yield index, value
        # Whatever kills its worker now has none beside it that would be lost too.
        for index, call in list(left.items()):
            found = list(self._attempt(function, {index: call}, 1))
            yield found[0] if found else (index, Failure("it killed its worker again and again"))

    @staticmethod
    def _attempt(
        function: Callable[..., Any], calls: dict[int, tuple], jobs: int
    ) -> Iterator[tuple[int, Any]]:
        """What ended before a worker died."""
        # spawn: a fork of a process that has run threads may hang.
        pool = ProcessPoolExecutor(min(jobs, len(calls)), get_context("spawn"), _obey_parent)
        try:
            futures: dict[Future, int] = {}
            for index, call in calls.items():
                futures[pool.submit(_call, function, *call)] = index
            pending = set(futures)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        value = _value(future.result)
                    except BrokenProcessPool:
                        continue
                    yield futures[future], value
        except BrokenProcessPool:  # it broke while calls were being handed over
            return
        except BaseException:
            # Ctrl-C, SIGTERM: nobody waits for what they are at, which may be minutes of it.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class RayPool:
    """A Ray cluster; a context manager.

    Args:
        address: "auto", "ray://HOST:PORT", "HOST:PORT", or "local:N" for N processes here.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise TrtLaneError(
                "ray is not installed; run: pip install --editable '.[workshop,cluster]'"
            ) from None
        self._ray = ray
        kind, _, number = address.partition(":")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if kind == "local" and (not number or number.isdecimal()):
            cores = int(number or os.cpu_count() or 1)
            # "local" by name: without it Ray takes a cluster that it finds on this machine.
            options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
        else:
            _check_reachable(address)
            # Workers elsewhere have the packages of pyproject.toml, but not this code.
            excluded = [f"/{name}" for name in NOT_SENT]
            options |= {
                "address": address,
                "runtime_env": {"working_dir": str(ROOT), "excludes": excluded},
            }
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrtLaneError(
                f"no Ray cluster at {address}: {first}; expected auto, ray://HOST:PORT or local:N"
            ) from None

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple]
    ) -> Iterator[tuple[int, Any]]:
        """As Pool.run; Ray makes calls that were lost with a worker again, on any machine."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=RAY_RETRIES)(_guarded)
        stored: dict[int, Any] = {}

        def argument(value: Any) -> Any:
            """Large bytes are sent to the cluster once, however many calls take them."""
            if not isinstance(value, bytes) or len(value) < LARGE_BYTES:
                return value
            if id(value) not in stored:
                stored[id(value)] = ray.put(value)
            return stored[id(value)]

        pending = {
            remote.remote(function, *map(argument, call)): index for index, call in enumerate(calls)
        }
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                index = pending.pop(reference)
                yield index, _value(lambda reference=reference: self._get(reference))

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except self._ray.exceptions.RayError as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrtLaneError(f"lost on the cluster {RAY_RETRIES + 1} times: {first}") from None


_ENDED = 128 + signal.SIGTERM
_calls = 0  # that this worker is in: none or one


def _obey_parent() -> None:
    """In a worker: Ctrl-C is for the parent, which then ends it so that it takes its files away."""

    def end(number: int, frame: object) -> None:
        if not _calls:
            os._exit(_ENDED)
        raise SystemExit

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: a call that is ended is its last."""
    global _calls
    _calls = 1
    try:
        return _guarded(function, *arguments)
    except SystemExit:
        os._exit(_ENDED)
    finally:
        _calls = 0


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: an exception that the parent cannot read back would break the whole pool."""
    return _value(partial(function, *arguments))


def _check_reachable(address: str) -> None:
    """Refuse at once an address where nothing answers: Ray itself goes on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        return  # "auto" and other words that Ray finds the place for
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise TrtLaneError(
            f"no Ray cluster at {address}: {error.strerror or error}; expected auto, "
            "ray://HOST:PORT or local:N"
        ) from None


def _value(result: Callable[[], Any]) -> Any:
    """What a call gave, or a Failure: one call that raises must not cost what the others give."""
    try:
        return result()
    except BrokenProcessPool:  # no word of this call: its worker died, or one beside it
        raise
    except Exception as error:
        return Failure(_reason(error))


def _reason(error: Exception) -> str:
    """One line; what is no user's mistake or machine's refusal tells its type too."""
    if isinstance(error, (TrtLaneError, OSError)):
        return " ".join(str(error).split()) or type(error).__name__
    first = next(filter(None, map(str.strip, str(error).splitlines())), "")
    return f"{type(error).__name__}: {first[:REASON_CHARACTERS]}".removesuffix(": ")
