import errno
import io
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.runtime.outputs import shared_memory as shm
from trt_lane.runtime.outputs.json_lines import JsonLines
from trt_lane.runtime.outputs.overlay import Recorder, annotated
from trt_lane.runtime.outputs.ros2 import Ros2
from trt_lane.runtime.outputs.shared_memory import SharedMemory, SharedMemoryReader
from trt_lane.runtime.outputs.udp import MAX_BYTES, Udp, parse_address
from trt_lane.runtime.result import Fault, FrameResult


def lane(points=20, offset=0.0):
    y = np.linspace(295, 150, points)
    return np.stack([100 + offset + 0.3 * y, y], axis=1)


def result(
    lanes=2, points=20, fault=Fault.NONE, age_ms=0.0, camera=0, sequence=5, max_age_ms=9000.0
):
    # Generous: a machine that pauses for a moment makes none of these stale.
    found = LaneSet.from_lanes([lane(points, 100 * i) for i in range(lanes)], (295, 820))
    now = time.monotonic_ns()
    captured = now - round(1e6 * age_ms)
    return FrameResult(camera, sequence, captured, now, found, fault, max_age_ms)


def test_json_lines_are_one_line_each():
    stream = io.StringIO()
    out = JsonLines(stream)
    out.publish(result(), None)
    out.publish(result(0, fault=Fault.CAMERA_LOST), None)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["valid"] and len(first["lanes"]) == 2
    assert (second["valid"], second["fault"]) == (False, "camera lost")


# -- shared memory ------------------------------------------------------------------------------


def test_a_reader_gets_the_newest_result_of_each_camera(tmp_path):
    writer = SharedMemory("test", 2, tmp_path)
    with SharedMemoryReader("test", tmp_path) as reader:
        assert reader.cameras == 2 and reader.read(0) is None
        sent = result(camera=1, sequence=9)
        writer.publish(result(camera=1, sequence=8), None)
        writer.publish(sent, None)
        found = reader.read(1)
        assert found.sequence == 9 and found.valid and reader.read(0) is None
        np.testing.assert_array_equal(found.lanes.points, sent.lanes.points)
        assert found.lanes.frame_hw == (295, 820)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_leaves_the_memory_of_the_one_that_took_its_name(tmp_path):
    first = SharedMemory("test", 1, tmp_path)
    second = SharedMemory("test", 1, tmp_path)
    first.close()
    second.publish(result(sequence=3), None)
    with SharedMemoryReader("test", tmp_path) as reader:
        assert reader.read().sequence == 3
    second.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("camera", [-1, 2, 99])
def test_a_camera_that_the_writer_does_not_have_is_refused(tmp_path, camera):
    writer = SharedMemory("test", 2, tmp_path)
    with (
        SharedMemoryReader("test", tmp_path) as reader,
        pytest.raises(TrtLaneError, match=f"no camera {camera}.*from 0 to 1"),
    ):
        reader.read(camera)
    writer.close()


def test_a_reader_never_gets_lanes_that_are_too_old(tmp_path):
    writer = SharedMemory("test", 1, tmp_path)
    reader = SharedMemoryReader("test", tmp_path)
    writer.publish(result(max_age_ms=500.0), None)
    assert reader.read().valid
    time.sleep(0.6)  # nothing new comes: the writer may be dead
    stale = reader.read()
    assert stale.fault is Fault.STALE and len(stale.lanes) == 0
    reader.close()
    writer.close()


def test_a_record_that_is_half_written_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shm, "_PAUSE_S", 0)
    writer = SharedMemory("test", 1, tmp_path)
    writer.publish(result(), None)
    path = tmp_path / "trt_lane.test"
    whole = path.read_bytes()
    with SharedMemoryReader("test", tmp_path) as reader, open(path, "r+b") as file:
        for at in (16, 25, shm._HEAD.size + 9, len(whole) - 1):
            file.seek(at)
            file.write(bytes([whole[at] ^ 1]))
            file.flush()
            assert reader.read() is None
            file.seek(at)
            file.write(whole[at : at + 1])
            file.flush()
            assert reader.read().valid
    writer.close()


def test_a_reader_in_another_process_sees_only_whole_records_while_they_change(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from trt_lane.runtime.outputs.shared_memory import SharedMemoryReader\n"
        "seen = set()\n"
        "with SharedMemoryReader('test', Path(sys.argv[1])) as reader:\n"
        "    print('ready', flush=True)\n"
        "    end = time.monotonic() + 20\n"
        "    while 400 not in seen and time.monotonic() < end:\n"
        "        found = reader.read()\n"
        "        if found is None or not found.valid: continue\n"
        "        lanes = found.lanes.lanes()\n"
        "        assert len(lanes) == 1 + found.sequence % 3, found.sequence\n"
        "        assert all((lane[:, 0] == found.sequence).all() for lane in lanes)\n"
        "        seen.add(found.sequence)\n"
        "print(len(seen))\n"
    )
    writer = SharedMemory("test", 1, tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    for number in [*range(400), *[400] * 200]:
        lanes = [np.full((30, 2), number, np.float32)] * (1 + number % 3)
        found = LaneSet.from_lanes(lanes, (295, 820))
        now = time.monotonic_ns()
        writer.publish(FrameResult(0, number, now, now, found, Fault.NONE, 5000.0), None)
        if child.poll() is not None:
            break
        time.sleep(0.001)
    out, _ = child.communicate(timeout=30)
    writer.close()
    assert child.returncode == 0 and int(out) > 3


def test_more_lanes_and_points_than_fit_are_thinned_evenly(tmp_path):
    writer = SharedMemory("test", 1, tmp_path)
    writer.publish(result(lanes=20, points=2000), None)
    with SharedMemoryReader("test", tmp_path) as reader:
        found = reader.read()
    assert found.lanes.points.shape == (shm.LANES, shm.POINTS, 2)
    np.testing.assert_allclose(found.lanes.lanes()[0][[0, -1]], lane(2000)[[0, -1]], rtol=1e-6)
    writer.close()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".x", "x" * 99])
def test_a_name_with_a_path_in_it_is_refused(tmp_path, name):
    with pytest.raises(TrtLaneError, match="no name"):
        SharedMemory(name, 1, tmp_path)
    with pytest.raises(TrtLaneError):
        SharedMemoryReader(name, tmp_path)


def test_a_reader_without_a_writer_is_told_so(tmp_path):
    with pytest.raises(TrtLaneError, match="trt-lane run"):
        SharedMemoryReader("test", tmp_path)


def test_the_record_is_laid_out_as_the_module_says(tmp_path):
    writer = SharedMemory("test", 1, tmp_path)
    writer.publish(result(lanes=1, points=3), None)
    data = (tmp_path / "trt_lane.test").read_bytes()
    assert data[:8] == b"TRTLANE\0" and len(data) == shm.RECORD_BYTES
    crc = int.from_bytes(data[24:28], "little")
    assert crc == zlib.crc32(data[28:])
    points = np.frombuffer(data, "<f4", offset=len(data) - shm.LANES * shm.POINTS * 8)
    np.testing.assert_allclose(points[:6].reshape(3, 2), lane(3), rtol=1e-6)
    writer.close()


# -- UDP ----------------------------------------------------------------------------------------


def receiver():
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.bind(("127.0.0.1", 0))
    channel.settimeout(5)
    return channel


def test_a_datagram_holds_the_result_its_age_and_the_boot():
    with receiver() as channel:
        out = Udp(f"127.0.0.1:{channel.getsockname()[1]}")
        out.publish(result(age_ms=20), None)
        values = json.loads(channel.recv(MAX_BYTES + 1))
        assert values["valid"] and 20 <= values["age_ms"] < 9000 and "boot_id" in values
        out.close()


def test_lanes_too_large_for_a_datagram_are_thinned():
    with receiver() as channel:
        out = Udp(f"127.0.0.1:{channel.getsockname()[1]}")
        out.publish(result(lanes=10, points=3000), None)
        values = json.loads(channel.recv(MAX_BYTES + 1))
        assert len(values["lanes"]) == 10 and len(values["lanes"][0]["points"]) > 50
        out.close()


def test_nobody_listening_is_no_error():
    with receiver() as channel:
        port = channel.getsockname()[1]
    out = Udp(f"localhost:{port}")
    for _ in range(5):
        out.publish(result(), None)
    out.close()


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH])
def test_a_network_that_is_down_for_a_moment_gets_the_next_result(code):
    with receiver() as channel:
        out = Udp(f"127.0.0.1:{channel.getsockname()[1]}")
        whole, given = out._socket, [code, errno.EPERM]

        def sendto(data, address):
            raise OSError(given.pop(0), "")

        out._socket = SimpleNamespace(sendto=sendto)
        out.publish(result(), None)
        with pytest.raises(PermissionError):  # a firewall's word is no accident
            out.publish(result(), None)
        out._socket = whole
        out.publish(result(sequence=7), None)
        assert json.loads(channel.recv(MAX_BYTES + 1))["sequence"] == 7
        out.close()


@pytest.mark.parametrize(
    "address", ["192.168.1.5:5600", "0.0.0.0:5600", "[2001:db8::1]:5600", "255.255.255.255:1"]
)
def test_another_machine_is_refused_unless_told(address):
    with pytest.raises(TrtLaneError, match="--udp-allow-remote"):
        parse_address(address, allow_remote=False)
    parse_address(address, allow_remote=True)


@pytest.mark.parametrize("address", ["127.0.0.1:5600", "[::1]:5600", "localhost:1", "127.9.9.9:2"])
def test_this_machine_is_taken(address):
    parse_address(address, allow_remote=False)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "example.com:5", ":5", "a b:1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(TrtLaneError, match="no address"):
        parse_address(address, allow_remote=True)


# -- pictures -----------------------------------------------------------------------------------


def test_a_recording_is_whole_under_its_name_only_when_closed(tmp_path):
    path = tmp_path / "out.avi"
    out = Recorder(path, 25, free=lambda folder: 1 << 40)
    for i in range(6):
        size = (295, 820) if i < 4 else (590, 1640)
        out.publish(result(sequence=i), np.zeros((*size, 3), np.uint8))
    out.publish(result(camera=1), np.zeros((295, 820, 3), np.uint8))
    out.publish(result(0, fault=Fault.CAMERA_LOST), None)
    assert not path.exists()
    out.close()
    assert [p.name for p in tmp_path.iterdir()] == ["out.avi"]
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == 6


def test_a_recording_ends_before_the_disk_is_full_and_stays_playable(tmp_path):
    free = iter([1 << 40, 1 << 20])
    out = Recorder(tmp_path / "out.avi", 25, free=lambda folder: next(free))
    with pytest.raises(TrtLaneError, match="after 25 frames"):
        for i in range(100):
            out.publish(result(sequence=i), np.zeros((295, 820, 3), np.uint8))
    out.close()
    assert cv2.VideoCapture(str(tmp_path / "out.avi")).read()[0]


def test_a_recording_into_nowhere_is_refused_at_once(tmp_path):
    with pytest.raises(TrtLaneError, match="no folder"):
        Recorder(tmp_path / "none" / "out.avi", 25)


def test_lanes_that_are_not_valid_are_never_drawn():
    frame = np.zeros((295, 820, 3), np.uint8)
    drawn = annotated(result(), frame)
    assert (drawn[150:] > 0).any() and not frame.any()
    for fault in (Fault.NOT_FINITE, Fault.STALE, Fault.ENGINE_LOST, Fault.BAD_FRAME):
        assert not annotated(result(0, fault=fault), frame)[150:].any()
    stale = result(age_ms=10_000).at()
    assert not annotated(stale, frame)[150:].any()


def test_a_ros_2_node_publishes_the_json_and_goes_when_it_is_closed(monkeypatch):
    """Against the calls of rclpy that it makes, in their order: there is no ROS 2 here."""
    calls = []

    def noted(name, result=None):
        return lambda *given, **named: calls.append((name, given, named)) or result

    publisher = SimpleNamespace(publish=lambda message: calls.append(("publish", message.data)))
    node = SimpleNamespace(
        create_publisher=noted("create_publisher", publisher), destroy_node=noted("destroy_node")
    )
    modules = {
        "rclpy": SimpleNamespace(
            init=noted("init"), create_node=noted("create_node", node), shutdown=noted("shutdown")
        ),
        "rclpy.qos": SimpleNamespace(
            QoSProfile=noted("profile"), ReliabilityPolicy=SimpleNamespace(BEST_EFFORT="best")
        ),
        "rclpy.signals": SimpleNamespace(SignalHandlerOptions=SimpleNamespace(NO="no")),
        "std_msgs.msg": SimpleNamespace(String=SimpleNamespace),
    }
    monkeypatch.setattr("trt_lane.runtime.outputs.ros2.import_module", modules.__getitem__)
    out = Ros2("/lanes")
    out.publish(result(), None)
    out.close()
    out.close()
    assert [c[0] for c in calls] == [
        "init", "create_node", "profile", "create_publisher", "publish", "destroy_node", "shutdown",
    ]  # fmt: skip
    assert calls[0][2] == {"signal_handler_options": "no"} and calls[3][1][1] == "/lanes"
    assert len(json.loads(calls[4][1])["lanes"]) == 2


@pytest.mark.parametrize("without", ["rclpy.signals", "std_msgs.msg", "a middleware"])
def test_a_ros_2_that_is_not_whole_or_does_not_start_is_one_error(monkeypatch, without):
    def init(**named):
        raise RuntimeError("failed to load the middleware")

    def find(name):
        if name == without:
            raise ImportError(f"No module named {name!r}")
        no = SimpleNamespace(NO="no")
        return SimpleNamespace(init=init, String=None, SignalHandlerOptions=no)

    monkeypatch.setattr("trt_lane.runtime.outputs.ros2.import_module", find)
    expected = "does not start" if without == "a middleware" else "no ROS 2 here"
    with pytest.raises(TrtLaneError, match=expected):
        Ros2("/lanes")


def test_without_ros_2_the_way_to_it_is_said():
    try:
        import rclpy  # noqa: F401
    except ImportError:
        with pytest.raises(TrtLaneError, match="no ROS 2 here"):
            Ros2("/lanes")
    with pytest.raises(TrtLaneError, match="no ROS 2 topic"):
        Ros2("/la nes")
