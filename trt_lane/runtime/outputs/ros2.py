"""Results on a ROS 2 topic, where rclpy is installed: the JSON of `--json` as std_msgs/String."""

from __future__ import annotations

import json
import re
from importlib import import_module

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.runtime.result import FrameResult


class Ros2:
    """A node with one publisher that keeps only the newest result.

    Args:
        topic: its name.

    Raises:
        TrtLaneError: rclpy is not here or does not start, or it is no topic.
    """

    wants_end = False

    def __init__(self, topic: str) -> None:
        if not re.fullmatch(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*", topic):
            raise TrtLaneError(f"{topic!r} is no ROS 2 topic; expected a name like /lanes")
        try:
            self._rclpy = import_module("rclpy")
            qos = import_module("rclpy.qos")
            self._string = import_module("std_msgs.msg").String
            options = import_module("rclpy.signals").SignalHandlerOptions
        except ImportError as error:
            raise TrtLaneError(
                f"no ROS 2 here ({error}); source /opt/ros/<distribution>/setup.bash first, or "
                "use --udp or --shared-memory"
            ) from None
        self.name = f"ros2 {topic}"
        try:
            # A signal ends the run, which then ends the node: rclpy must not take it away.
            self._rclpy.init(signal_handler_options=options.NO)
            self._node = self._rclpy.create_node("trt_lane")
            profile = qos.QoSProfile(depth=1, reliability=qos.ReliabilityPolicy.BEST_EFFORT)
            self._publisher = self._node.create_publisher(self._string, topic, profile)
        except Exception as error:  # rclpy's errors share no public base class
            raise TrtLaneError(
                f"ROS 2 does not start ({error}); see ROS_DOMAIN_ID and RMW_IMPLEMENTATION"
            ) from None

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Publish one message."""
        message = self._string()
        message.data = json.dumps(result.to_plain(), allow_nan=False)
        self._publisher.publish(message)

    def close(self) -> None:
        """Destroy the node."""
        node, self._node = self._node, None
        if node is not None:
            node.destroy_node()
            self._rclpy.shutdown()
