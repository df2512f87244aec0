"""What pytorch-auto-drive's lane detectors share: data sets, pre-processing, heads, decoders.

Numbers are those of voldemortX/pytorch-auto-drive 137e63a, configs/lane_detection (each file's
`test`, and common/datasets/test_288.py, test_360.py); scores are its docs/MODEL_ZOO.md (best runs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trt_lane.decoders.segmentation import Segmentation
from trt_lane.image import ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin

if TYPE_CHECKING:
    from torch import nn

SOURCE = "https://github.com/voldemortX/pytorch-auto-drive"
LICENCE = "BSD-3-Clause"


@dataclass(frozen=True)
class DataSet:
    """How one data set is read and answered.

    Attributes:
        name: as in the models' names.
        frame_hw, input_hw: sizes of the frame and the network input.
        lanes: lanes L of a segmentation head.
        max_lanes: lanes that are kept.
        gap_px, points, first_gap, lift_px: rows of the answer, see Segmentation.
        metric: its official score.
        score: what its figures are called.
    """

    name: str
    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    lanes: int
    max_lanes: int
    gap_px: int
    points: int
    first_gap: int
    lift_px: int
    metric: Metric
    score: str

    @property
    def image(self) -> ImageSpec:
        """The whole frame, resized by Pillow's bilinear filter, ImageNet's mean and std."""
        return ImageSpec(self.frame_hw, self.input_hw, resampling=Resampling.ANTIALIASED)

    @property
    def segmentation(self) -> Segmentation:
        """The official decoder of the segmentation models."""
        return Segmentation(
            frame_hw=self.frame_hw,
            input_hw=self.input_hw,
            lanes=self.lanes,
            max_lanes=self.max_lanes,
            gap_px=self.gap_px,
            points=self.points,
            first_gap=self.first_gap,
            lift_px=self.lift_px,
        )

    def origin(self, checkpoint: str, score: str) -> Origin:
        """Where the official weights are: the file of the model zoo, and its score."""
        return Origin(SOURCE, LICENCE, checkpoint, f"{self.score} {score}")


CULANE = DataSet("culane", (590, 1640), (288, 800), 4, 4, 20, 18, 0, 1, Metric.CULANE, "CULane F1")
TUSIMPLE = DataSet(
    "tusimple", (720, 1280), (360, 640), 6, 5, 10, 56, 1, 0, Metric.TUSIMPLE, "TuSimple accuracy"
)
LLAMAS = DataSet(
    "llamas", (717, 1276), (360, 640), 4, 4, 1, 417, 0, 1, Metric.LLAMAS, "LLAMAS validation F1"
)
DATA_SETS = {d.name: d for d in (CULANE, TUSIMPLE, LLAMAS)}


def segmentation_model(
    name: str,
    network: Callable[..., nn.Module],
    data_set: DataSet,
    map_hw: tuple[int, int],
    checkpoint: str,
    score: str,
    training_only: tuple[str, ...] = (),
) -> LaneModel:
    """A detector of the model zoo that gives a class per pixel and the lanes' existence.

    Args:
        name: of the model.
        network: makes it from `input_hw` and `lanes`.
        data_set: that it was trained for.
        map_hw: height and width of its class map.
        checkpoint: file of the model zoo.
        score: its official score there.
        training_only: prefixes of checkpoint keys that inference does not use.
    """
    return LaneModel(
        name=name,
        image=data_set.image,
        heads=segmentation_heads(data_set.segmentation, map_hw),
        decoder=data_set.segmentation,
        network=partial(network, input_hw=data_set.input_hw, lanes=data_set.lanes),
        metric=data_set.metric,
        origin=data_set.origin(checkpoint, score),
        training_only=training_only,
    )


def segmentation_heads(decoder: Segmentation, map_hw: tuple[int, int]) -> tuple[Head, Head]:
    """The class map at its own resolution and the lanes' existence."""
    foreground = Confidence(
        "out",
        Activation.SOFTMAX,
        axis=0,
        classes=(0,),
        of_background=True,
        threshold=decoder.threshold,
    )
    existence = Confidence("lane", Activation.SIGMOID, threshold=decoder.existence_threshold)
    classes = decoder.lanes + 1
    return (
        Head("out", (classes, *map_hw), "segmentation logits", foreground, (1, 2)),
        Head("lane", (decoder.lanes,), "lane existence logits", existence, (0,)),
    )
