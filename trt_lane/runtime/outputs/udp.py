"""Results as JSON datagrams; to this machine, unless told otherwise."""

from __future__ import annotations

import errno
import ipaddress
import json
import re
import socket
from pathlib import Path

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.runtime.result import FrameResult

# What IPv4 carries in one datagram.
MAX_BYTES = 65_507
# Of a network that is down for now, of a reader that is not there, of a full buffer.
_PASSING = frozenset(
    {
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ECONNREFUSED, errno.ENOBUFS, errno.EAGAIN),
    }
)


class Udp:
    """Sends a datagram per result.

    `captured_ns` in it is the sender's monotonic clock, good for a reader with the same `boot_id`;
    any other knows only `age_ms`, which was right when the datagram was sent.

    Args:
        address: HOST:PORT; an IP address or localhost.
        allow_remote: whether HOST may be another machine.

    Raises:
        TrtLaneError: it is no address, or another machine's without leave.
    """

    wants_end = False

    def __init__(self, address: str, allow_remote: bool = False) -> None:
        family, self._address = parse_address(address, allow_remote)
        self.name = f"udp {address}"
        self._boot = boot_id()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Send; what passes by itself is no error: the next result finds another network."""
        data = self._encoded(result)
        if len(data) > MAX_BYTES:
            data = self._encoded(_thinned(result, MAX_BYTES / len(data)))
        try:
            self._socket.sendto(data, self._address)
        except OSError as error:
            if error.errno not in _PASSING:
                raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _encoded(self, result: FrameResult) -> bytes:
        return json.dumps({**result.to_plain(), "boot_id": self._boot}, allow_nan=False).encode()


def parse_address(text: str, allow_remote: bool) -> tuple[int, tuple[str, int]]:
    """Socket family and (host, port) of HOST:PORT or [IPv6]:PORT."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    try:
        if match is None or not 1 <= int(match[3]) <= 65535:
            raise ValueError
        host = match[1] or match[2]
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise TrtLaneError(
            f"{text!r} is no address; expected IP:PORT, e.g. 127.0.0.1:5600"
        ) from None
    if not ip.is_loopback and not allow_remote:
        raise TrtLaneError(
            f"{text} is another machine's; lanes stay on this one unless you say "
            "--udp-allow-remote (nothing is encrypted or signed there)"
        )
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    return family, (str(ip), int(match[3]))


def boot_id() -> str:
    """What tells one start of one machine from every other, "" where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _thinned(result: FrameResult, share: float) -> FrameResult:
    """The result with so many of each lane's points that it fits; the ends stay."""
    lanes = []
    for lane in result.lanes.lanes():
        keep = max(2, int(0.9 * share * len(lane)))
        lanes.append(lane[np.unique(np.linspace(0, len(lane) - 1, keep).round().astype(int))])
    thin = LaneSet.from_lanes(lanes, result.lanes.frame_hw, list(result.lanes.scores))
    return FrameResult(
        result.camera,
        result.sequence,
        result.captured_ns,
        result.finished_ns,
        thin,
        result.fault,
        result.max_age_ms,
    )
