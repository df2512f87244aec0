from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from exported import fill_randomly
from rule import load_case

from trt_lane.decoders.dynamic_mask import DynamicMask
from trt_lane.model import get_model
from trt_lane.models._dynamic_lanes import PeakSlots, at_cells
from trt_lane.models.condlanenet import MODELS, CondLaneRNNHead

NAMES = [model.name for model in MODELS]
FAST = "condlanenet.r18_culane"
SMALL = DynamicMask(
    frame_hw=(100, 240),
    crop_top=20,
    input_hw=(64, 96),
    heat_hw=(4, 6),
    mask_hw=(8, 12),
    nms_cells=1.0,
    slots=5,
    steps=3,
)


def test_every_official_configuration_is_there():
    data = ("culane", "tusimple", "curvelanes")
    assert set(NAMES) == {f"condlanenet.r{depth}_{d}" for depth in (18, 34, 101) for d in data}


def test_agrees_with_the_official_network_at_its_seeds(shared):
    case = load_case(shared, "condlanenet_r18_culane")
    model = get_model(FAST)
    module = case.fill(model.build(), without=model.training_only)
    x, y = torch.from_numpy(case.outputs["seed_xy"]).long().T
    with torch.inference_mode():
        levels = module.neck(module.backbone(case.image())[module.first_stage :])
        logits, params, features = module.bbox_head.maps(*levels)
        seeds = at_cells(params, (x * model.decoder.heat_hw[0] + y)[None], params.shape[1])
        lanes = module.bbox_head.lanes_at(seeds, features, len(x))
    outputs = {
        "hm_logits": logits,
        "params": params,
        "mask_branch": features,
        "masks_at_seeds": lanes["masks"][0],
        "regs_at_seeds": lanes["regs"][0],
        "range_at_seeds": lanes["ranges"][0],
    }
    case.assert_agrees(outputs, outputs)
    assert set(case.outputs) == {*outputs, "seed_xy"}


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_what_the_decoder_reads(name):
    model = get_model(name)
    assert {head.name: head.shape for head in model.heads} == model.decoder.shapes


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        # The published checkpoint's shape, not its configuration's (the repository's issue 16).
        ("condlanenet.r101_tusimple", "bbox_head.mlp.layers.0.weight", (64, 200, 1)),
        ("condlanenet.r101_culane", "neck.fpn_convs.2.conv.weight", (64, 64, 3, 3)),
        ("condlanenet.r34_curvelanes", "bbox_head.rnn_ceil.conv.0.weight", (512, 256, 1, 1)),
        ("condlanenet.r34_curvelanes", "bbox_head.mask_branch.2.conv.bias", (64,)),
        ("condlanenet.r18_curvelanes", "bbox_head.ctnet_head.params.2.weight", (128, 128, 1, 1)),
    ],
)
def test_official_keys_have_the_official_shape(name, key, shape):
    with torch.device("meta"):
        assert tuple(get_model(name).network().state_dict()[key].shape) == shape


# mmdet/datasets/curvelanes_dataset.py; the first is the variant's own
@pytest.mark.parametrize(
    ("frame_hw", "cut"), [((1440, 2560), 640), ((720, 1280), 368), ((660, 1570), 180)]
)
def test_curvelanes_frames_of_one_size_are_a_variant_of_ones_own(frame_hw, cut):
    official = get_model("condlanenet.r18_curvelanes")
    image = replace(official.image, frame_hw=frame_hw, crop_top=cut)
    decoder = replace(official.decoder, frame_hw=frame_hw, crop_top=cut)
    frame = np.random.default_rng(0).integers(0, 256, (*frame_hw, 3), dtype=np.uint8)
    assert np.array_equal(image.resize(frame), cv2.resize(frame[cut:], (800, 320)))
    assert decoder.shapes == official.decoder.shapes
    heads = {name: np.full(shape, -9, np.float32) for name, shape in decoder.shapes.items()}
    heads["hm_logits"][0, 10, 20] = heads["peaks"][0] = 5
    heads["masks"][0, 0, :, 30] = heads["ranges"][0, 0, 1, 10:] = heads["states"][0, 0, 0] = 9
    heads["regs"][:] = 0
    (points,) = decoder(**heads).lanes()
    rows = np.arange(39, 8, -1) * 8 / 320 * (frame_hw[0] - cut) + cut  # adjust_result
    assert points[:, 1] == pytest.approx(rows)
    assert points[:, 0] == pytest.approx(np.full(31, 30 * 8 / 800 * frame_hw[1]))


def test_peaks_above_the_threshold_take_the_first_slots_column_by_column():
    logits = torch.full((1, 1, 4, 6), -8.0)
    logits[0, 0, 3, 5], logits[0, 0, 0, 2], logits[0, 0, 2, 2], logits[0, 0, 1, 0] = 2, 1, 3, -1
    logits[0, 0, 2, 3] = 2.5  # beside a higher one
    peaks, cells = PeakSlots((4, 6), 4, 0.0)(logits)
    assert peaks[0, :3].tolist() == [1, 3, 2]
    assert [(c // 4, c % 4) for c in cells[0, :3].tolist()] == [(2, 0), (2, 2), (5, 3)]
    assert (peaks[0, 3], cells[0, 3]) == (-1, 1)


def test_recurrent_head_equals_the_literal_cell_seed_by_seed():
    module = fill_randomly(CondLaneRNNHead(SMALL), seed=3)
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(1, 64, *SMALL.mask_hw, generator=generator)
    coarse = torch.randn(1, 64, *SMALL.heat_hw, generator=generator)
    with torch.inference_mode():
        heads = {name: head[0].numpy() for name, head in module(fine, coarse).items()}
        logits, params, features = module.maps(fine, coarse)
        _, cells = module.peak_slots(logits)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    for slot, cell in enumerate(cells[0].tolist()):
        x, y = divmod(cell, SMALL.heat_hw[0])
        seed = params[0, :, y, x].numpy()
        for step, lane in enumerate(literal_lanes(weights, seed, features[0].numpy())):
            for name, expected in lane.items():
                error = np.abs(heads[name][slot, step] - expected).max()
                assert error < 1e-5 * np.abs(expected).max() + 1e-6, (name, slot, step)


def literal_lanes(weights, seed, features):
    """The official recurrent head for one seed: gates, kernels, masks, ranges, states."""

    def layer(name, values):
        weight = weights[f"{name}.weight"]
        return weight.reshape(len(weight), -1) @ values + weights[f"{name}.bias"]

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    height, width = SMALL.mask_hw
    rows, columns = np.mgrid[:height, :width]
    stacked = np.concatenate([np.stack([columns, rows]) / width, features])  # (66, H, W)
    hidden = cell = np.zeros_like(seed)
    for _ in range(SMALL.steps):
        gates = layer("rnn_ceil.conv.0", np.concatenate([seed, hidden])).reshape(-1, 32)
        gates = (gates - gates.mean(1, keepdims=True)) / np.sqrt(gates.var(1, keepdims=True) + 1e-5)
        gates = gates.ravel() * weights["rnn_ceil.conv.1.weight"] + weights["rnn_ceil.conv.1.bias"]
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        seed = hidden = sigmoid(o) * np.tanh(cell)
        kernel = layer("final_fc.fc_param", hidden)
        mask, offset = (
            np.tensordot(k[:66], stacked, 1) + k[66] - 2.19 for k in (kernel[:67], kernel[67:])
        )
        within = layer_1d(weights, "mlp.layers.0", mask.T)
        yield {
            "masks": mask,
            "regs": offset,
            "ranges": layer_1d(weights, "mlp.layers.1", np.maximum(within, 0)),
            "states": layer("final_fc.fc_state", hidden),
        }


def layer_1d(weights, name, values):
    """A 1-D convolution of size 1: (C, H) -> (outputs, H)."""
    return weights[f"{name}.weight"][:, :, 0] @ values + weights[f"{name}.bias"][:, None]
