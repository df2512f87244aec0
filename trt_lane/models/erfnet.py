"""ERFNet as a lane detector: factorised residual encoder and decoder, one class per lane.

Structure, key names and numbers follow voldemortX/pytorch-auto-drive 137e63a
(configs/lane_detection/baseline/erfnet_*.py); the network is in _erfnet.py.
"""

from __future__ import annotations

from functools import partial

from trt_lane.decoders.segmentation import Segmentation
from trt_lane.image import ImageSpec
from trt_lane.model import LaneModel, Origin
from trt_lane.models._auto_drive import DATA_SETS, segmentation_heads, segmentation_model
from trt_lane.models._erfnet import ERFNet

# The encoder's own classifier serves only its pre-training.
TRAINING_ONLY = ("encoder.output_conv.",)

# The demo sees whole CULane-shaped frames; half the channels at 1/4 and 1/8 train four times as
# fast.
DEMO_IMAGE = ImageSpec(frame_hw=(590, 1640), input_hw=(160, 448))
# F1 on calibration frames wants this threshold (officially 0.3) and blur (9 of 800 columns).
DEMO_DECODER = Segmentation(
    frame_hw=DEMO_IMAGE.frame_hw,
    input_hw=DEMO_IMAGE.input_hw,
    gap_px=10,
    points=40,
    threshold=0.5,
    blur_px=9,
)


def _official(data: str, score: str, checkpoint: str) -> LaneModel:
    data_set = DATA_SETS[data]
    return segmentation_model(
        f"erfnet.{data}", ERFNet, data_set, data_set.input_hw, checkpoint, score, TRAINING_ONLY
    )


MODELS = (
    LaneModel(
        name="erfnet",
        image=DEMO_IMAGE,
        heads=segmentation_heads(DEMO_DECODER, DEMO_IMAGE.input_hw),
        decoder=DEMO_DECODER,
        network=partial(ERFNet, DEMO_IMAGE.input_hw, DEMO_DECODER.lanes, widths=(16, 32, 64)),
        origin=Origin("trt_lane, training/", "Apache-2.0"),
        demo=True,
    ),
    _official("culane", "73.49", "erfnet_baseline_culane_20210204.pt"),
    _official("tusimple", "96.04", "erfnet_baseline_tusimple_20210424.pt"),
    _official("llamas", "96.13", "erfnet_baseline_llamas_20210625.pt"),
)
