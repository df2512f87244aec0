"""Every representation learns: small networks of the real kinds, on eight rendered frames."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from training.data import FrameCache, FrameRange, network_view
from training.loop import Trainer
from training.recipe import Augmentation
from training.targets import targets_of
from trt_lane.datasets.synthetic import Split
from trt_lane.image import ImageSpec
from trt_lane.model import LaneModel, get_model
from trt_lane.models._line_anchors import LineAnchors
from trt_lane.models._line_attention import LaneATT

INPUT_HW = (64, 192)
PLAIN = Augmentation(flip=0, warp=0, colour=0, blur=0, noise=0)


def tiny(name: str) -> LaneModel:
    """The demo on a ninth of its pixels and with few channels; its heads are not described."""
    demo = get_model(name)
    image = replace(demo.image, input_hw=INPUT_HW)
    network, numbers = demo.network, {}
    if name == "laneatt":
        lines = LineAnchors.around(6, 8)
        numbers = {"anchors": len(lines), "x_full": INPUT_HW[1]}
        network = partial(small_line_network, lines)
    elif name == "erfnet":
        numbers = {"input_hw": INPUT_HW}
        network = partial(network.func, INPUT_HW, 4, widths=(8, 16, 24))
    elif name == "ganet":
        numbers = {"input_hw": INPUT_HW, "heat_hw": (INPUT_HW[0] // 8, INPUT_HW[1] // 8)}
        network = partial(network, input_hw=INPUT_HW, width=16, features=16)
    else:
        numbers = {"columns": INPUT_HW[1] // 16, "window": 0}
        network = partial(network, input_hw=INPUT_HW, width=16)
    return replace(demo, image=image, decoder=replace(demo.decoder, **numbers), network=network)


def small_line_network(lines: LineAnchors) -> LaneATT:
    trunk = nn.Sequential(
        *(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, 4), nn.BatchNorm2d(32), nn.ReLU()),
    )
    return LaneATT(trunk, 32, 16, INPUT_HW, lines, len(lines))


@cache
def eight_frames(spec: ImageSpec) -> FrameCache:
    views = [network_view(spec, FrameRange(Split.TRAIN, 0, 8), i) for i in range(8)]
    pixels, lanes = (np.stack(arrays) for arrays in zip(*views, strict=True))
    return FrameCache(None, ((pixels, lanes),), 8)


@pytest.mark.parametrize("name", ["laneatt", "ganet", "bezierlanenet", "erfnet"])
def test_twenty_five_steps_on_eight_frames_lower_the_loss(name):
    torch.set_num_threads(1)
    model = tiny(name)
    target = targets_of(model)
    recipe = replace(
        target.RECIPE, minutes=None, steps=25, batch=8, frames=8, augmentation=PLAIN,
        learning_rate=3e-3,
    )  # fmt: skip
    trainer = Trainer(model, target, recipe, eight_frames(model.image))
    trainer.run(lambda t: True)
    assert trainer.step == 25 and np.isfinite(trainer.losses).all()
    assert np.mean(trainer.losses[-3:]) < 0.7 * np.mean(trainer.losses[:3])
