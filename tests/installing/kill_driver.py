"""Kills installations and rollbacks at random moments: `kill_driver.py BUNDLE BUNDLE ROOT COUNT`.

The process that is killed is a fork of this one, which has imported everything and never ran an
engine, so that hundreds of kills take seconds. After each of them a further fork proves what is
current. On stdout one line of JSON per kill: what was running, when it was killed, what was found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from trt_lane.errors import TrtLaneError
from trt_lane.installing.install import install, prove
from trt_lane.installing.store import Store


def main(first: Path, second: Path, root: Path, count: int) -> int:
    """Kill `count` times; 1 when what was current afterwards was not whole."""
    # Loaded here once: a fork would spend most of its life loading it.
    import onnxruntime  # noqa: F401

    rng = random.Random(0)
    store = Store(root)
    start = time.monotonic()
    _wait(_fork(lambda: install(first, store, threads=1)))
    whole_s = time.monotonic() - start
    known = set()
    for number in range(count):
        kind, work = _work(number, store, (first, second))
        child = _fork(work)
        after_s = rng.uniform(0, whole_s if kind == "install" else 0.02 * whole_s)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(_wait(child))
        sound = _wait(_fork(lambda: _prove(store))) == 0
        state = store.state()
        known |= {state.current}
        listed = len(list(store.engines.iterdir()))
        print(json.dumps({
            "kind": kind, "after_ms": round(1e3 * after_s, 1), "killed": ended == -signal.SIGKILL,
            "sound": sound, "current": state.current, "engines": listed,
        }), flush=True)  # fmt: skip
        if not sound:
            return 1
    # A store that was killed so often still takes an installation.
    return _wait(_fork(lambda: install(second, store, threads=1)))


def _work(number: int, store: Store, bundles: tuple[Path, Path]):
    if number % 3 == 2:
        return "rollback", lambda: _rollback(store)
    return "install", lambda: install(bundles[number % 2], store, threads=1)


def _rollback(store: Store) -> None:
    with store.locked():
        store.rollback()


def _prove(store: Store) -> None:
    if not prove(store.current_folder(), threads=1).passed:
        raise TrtLaneError("golden frames fail")


def _fork(work) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def _wait(child: int) -> int:
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(Path(words[0]), Path(words[1]), Path(words[2]), int(words[3])))
