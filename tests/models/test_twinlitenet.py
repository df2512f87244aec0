import cv2
import numpy as np
import pytest
import torch

from trt_lane.model import get_model

FRAMES = (
    "road_photos/solidWhiteCurve.jpg",
    "road_photos/highway_test1.jpg",
    "culane/driver_ego/drive.MP4/00000.jpg",
    "tusimple/clips/0313-1/10100/20.jpg",
)
MODEL = get_model("twinlitenet.bdd100k")


@pytest.fixture(scope="module")
def trained(shared):
    checkpoint = torch.load(
        shared / "weights/twinlitenet_bdd100k.pth", map_location="cpu", weights_only=True
    )
    module = MODEL.build()
    module.load_state_dict({k.removeprefix("module."): v for k, v in checkpoint.items()})
    return module


def run(module, shared, frame):
    """Heads of one frame, stretched to the network's size as the official code does."""
    height, width = MODEL.image.input_hw
    image = cv2.resize(cv2.imread(str(shared / "data" / frame)), (width, height))
    scale, offset = MODEL.image.affine()
    planes = image[:, :, ::-1].transpose(2, 0, 1) * scale[:, None, None] + offset[:, None, None]
    with torch.inference_mode():
        heads = module(torch.from_numpy(np.float32(planes))[None])
    return {name: head[0].numpy() for name, head in heads.items()}


@pytest.mark.parametrize("frame", FRAMES)
def test_agrees_with_the_official_network_on_real_frames(shared, trained, frame):
    found = run(trained, shared, frame)
    with np.load(shared / "data/real_network_cases/twinlitenet.npz") as official:
        logits = official[f"{frame}|lane_logits_every_16"]
        masks = {k: np.unpackbits(official[f"{frame}|{k}_mask"]) for k in ("lane", "drivable")}
    error = np.abs(found["lane"][:, ::16, ::16] - logits).max() / np.abs(logits).max()
    assert error <= 1e-4
    for head, mask in masks.items():
        ours = found[head].argmax(axis=0).ravel() == 1
        theirs = mask[: ours.size] == 1
        assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.999


def test_real_frame_gives_the_two_ego_lines(shared, trained):
    lanes = MODEL.decoder(**run(trained, shared, "road_photos/solidWhiteCurve.jpg"))
    height, width = MODEL.image.frame_hw
    at_row = lanes.at_rows(np.float32([0.85 * height]))[:, 0] / width
    assert ((at_row > 0.2) & (at_row < 0.5)).sum() == 1
    assert ((at_row > 0.5) & (at_row < 0.9)).sum() == 1
