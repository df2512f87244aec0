"""`trt-lane run`: lanes of cameras or videos, live, to whoever asks for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "run"
# A result in more than an hour; slower than that is a slip of the pen.
_SLOWEST_HZ = 0.0002
HELP = "find the lanes of cameras or videos as they come, and hand them on with their age"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument(
        "artifact", type=Path, nargs="?", help="an artifact (default: what is installed in --root)"
    )
    parser.add_argument("--root", type=Path, help="where engines live (default: /var/lib/trt_lane)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--camera", action="append", metavar="WHICH",
        help="/dev/video0, csi:0 or rtsp://…; several times for several cameras in one batch",
    )  # fmt: skip
    source.add_argument("--video", action="append", type=Path, metavar="FILE", help="a video file")
    how = parser.add_argument_group("how")
    how.add_argument("--fit", choices=("error", "stretch", "crop"), default="crop",
                     help="frames of another aspect ratio (default crop)")  # fmt: skip
    how.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="results a second, most")
    how.add_argument("--max-age", type=float, default=250.0, metavar="MS",
                     help="older results are stale and lose their lanes (default 250)")  # fmt: skip
    how.add_argument("--realtime", action="store_true",
                     help="play a file at its own speed and drop what comes too fast")  # fmt: skip
    how.add_argument("--loop", action="store_true", help="begin a file anew at its end")
    how.add_argument("--frames", type=int, default=0, metavar="N", help="stop after N results")
    how.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    out = parser.add_argument_group("who is told")
    out.add_argument("--json", action="store_true", help="JSON lines on stdout")
    out.add_argument("--window", action="store_true", help="a window; q ends")
    out.add_argument("--record", type=Path, metavar="FILE", help="a video with lanes, of camera 0")
    out.add_argument("--shared-memory", metavar="NAME", help="the newest result, in /dev/shm")
    out.add_argument("--udp", metavar="IP:PORT", help="JSON datagrams, to this machine only")
    out.add_argument("--udp-allow-remote", action="store_true", help="… or to another one")
    out.add_argument("--ros2", metavar="TOPIC", help="JSON as std_msgs/String; needs rclpy")
    care = parser.add_argument_group("care")
    care.add_argument("--health", type=float, default=10.0, metavar="S",
                      help="seconds between health lines on stderr, 0 for none")  # fmt: skip
    care.add_argument("--watchdog", type=float, default=10.0, metavar="S",
                      help="end when nothing moves for so long, 0 for never")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run until stopped; 0 after SIGTERM, Ctrl-C, q or the end of the files."""
    import signal
    import threading
    from contextlib import ExitStack

    # First of all: an exception out of a signal's handler breaks a library that is being loaded.
    stop = threading.Event()
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, lambda *_: stop.set())
            stack.callback(signal.signal, number, before)
        return _run(args, stop, stack)


def _run(args: argparse.Namespace, stop: Any, stack: Any) -> int:
    from trt_lane.errors import TrtLaneError
    from trt_lane.fit import Fit
    from trt_lane.runtime.engine import Engine
    from trt_lane.runtime.loop import Limits, Run
    from trt_lane.runtime.watchdog import Watchdog, notify

    for name in ("rate", "max_age", "health", "watchdog", "frames"):
        value = getattr(args, name)
        if not 0 <= value <= 1e9:
            raise TrtLaneError(f"--{name.replace('_', '-')} is {value}; expected 0 to 1e9")
    if 0 < args.rate < _SLOWEST_HZ:
        raise TrtLaneError(f"--rate is {args.rate}; expected 0 for none, or {_SLOWEST_HZ} and more")
    specs = _sources(args)
    artifact = _artifact(args)
    outputs = _outputs(args, specs, stack)
    engine = Engine(_opener(args, artifact), _log)
    stack.callback(engine.close)
    arrived, grabbers = _grabbers(args, specs)
    limits = Limits(args.max_age, 0.0 if args.video else args.rate, args.frames, args.health)
    watchdog = stack.enter_context(Watchdog(args.watchdog, _log))
    going = Run(
        grabbers, arrived, engine, artifact.image, Fit(args.fit), outputs, limits, _log, watchdog,
        stop,
    )  # fmt: skip
    notify("READY=1")
    health = going.go()
    notify("STOPPING=1")
    _log(health.line())
    return 0


def _sources(args: argparse.Namespace) -> list:
    from trt_lane.runtime import source

    if args.camera:
        return [source.camera(text) for text in args.camera]
    return [source.video(path) for path in args.video]


def _artifact(args: argparse.Namespace) -> Any:
    from trt_lane.artifact import EngineArtifact
    from trt_lane.installing.store import Store

    return EngineArtifact.load(args.artifact) if args.artifact else Store(args.root).current()


def _opener(args: argparse.Namespace, artifact: Any) -> Callable[[], Any]:
    """Opens the detector, as often as it takes."""
    from trt_lane.artifact import EngineArtifact
    from trt_lane.detector import LaneDetector

    # This one's files were compared with their digests just now; later on they may be others.
    verified = [artifact]

    def open_detector() -> LaneDetector:
        found = verified.pop() if verified else EngineArtifact.load(artifact.folder)
        return LaneDetector.open(found, threads=args.threads, fit=args.fit)

    return open_detector


def _grabbers(args: argparse.Namespace, specs: list) -> tuple:
    import threading

    from trt_lane.runtime.grabber import Grabber

    arrived = threading.Event()
    grabbers = []
    for spec in specs:
        if spec.live:
            grabbers.append(Grabber(spec, arrived))
            continue
        rate = args.rate or (spec.rate_hz if args.realtime else 0.0)
        grabbers.append(
            Grabber(spec, arrived, keep_all=not args.realtime, rate_hz=rate, loop=args.loop)
        )
    return arrived, grabbers


def _outputs(args: argparse.Namespace, specs: list, stack: Any) -> list:
    import sys

    outputs = []

    def add(output: object) -> None:
        outputs.append(output)
        stack.callback(output.close)

    if args.udp:
        from trt_lane.runtime.outputs.udp import Udp

        add(Udp(args.udp, args.udp_allow_remote))
    if args.shared_memory:
        from trt_lane.runtime.outputs.shared_memory import SharedMemory

        add(SharedMemory(args.shared_memory, len(specs)))
    if args.ros2:
        from trt_lane.runtime.outputs.ros2 import Ros2

        add(Ros2(args.ros2))
    if args.json:
        from trt_lane.runtime.outputs.json_lines import JsonLines

        add(JsonLines(sys.stdout))
    if args.record:
        from trt_lane.errors import TrtLaneError
        from trt_lane.runtime.outputs.overlay import Recorder

        if args.record.exists() and any(path.samefile(args.record) for path in args.video or ()):
            raise TrtLaneError(f"{args.record} is what is being read; record into another file")
        add(Recorder(args.record, args.rate or specs[0].rate_hz or 25.0))
    if args.window:
        from trt_lane.runtime.outputs.overlay import Window

        add(Window())
    return outputs


def _log(line: str) -> None:
    import sys

    sys.stderr.write(f"trt-lane run: {line}\n")
    sys.stderr.flush()
