import numpy as np
import pytest

from trt_lane.datasets import open_dataset
from trt_lane.decoders.lane_mask import LaneMask
from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import lanes_of
from trt_lane.image import ImageSpec
from trt_lane.metrics.mask_iou import MaskIou, has_mask

DECODER = LaneMask(frame_hw=(60, 100), input_hw=(60, 100))


def heads(columns: slice) -> dict[str, np.ndarray]:
    lane = np.zeros((2, 60, 100), np.float32)
    lane[0] = 1
    lane[1, :, columns] = 2
    return {"drivable": np.zeros_like(lane), "lane": lane}


def test_pixels_of_all_frames_are_counted_before_they_are_divided():
    masks = MaskIou(DECODER, "float")
    masks.add({"float": heads(slice(0, 10)), "int8": heads(slice(5, 10))})
    masks.add({"float": heads(slice(0, 30)), "int8": heads(slice(0, 40))})
    assert masks.of("float") == 1
    assert masks.of("int8") == pytest.approx((5 + 30) / (10 + 40))


def test_frames_without_a_lane_pixel_agree():
    masks = MaskIou(DECODER, "float")
    masks.add({"float": heads(slice(0, 0)), "int8": heads(slice(0, 0))})
    assert masks.of("int8") == 1


def test_a_form_that_was_not_counted_is_an_error():
    with pytest.raises(TrtLaneError, match="no mask of 'engine' was counted; known: "):
        MaskIou(DECODER, "float").of("engine")


def test_only_decoders_of_a_mask_have_one():
    assert has_mask(DECODER)
    assert not has_mask(RowAnchor((590, 1640), (270, 310), cells=24, lanes=4, cell_px=68))


def test_the_mask_that_is_compared_is_the_one_that_the_lanes_are_read_off():
    image = ImageSpec(frame_hw=(60, 100), input_hw=(60, 100))
    networks = {
        "float": lambda x: {k: v[None] for k, v in heads(slice(20, 24)).items()},
        "int8": lambda x: {k: v[None] for k, v in heads(slice(20, 22)).items()},
    }
    masks = MaskIou(DECODER, "float")
    dataset = open_dataset("synthetic:test:2:167x60")
    lanes, _ = lanes_of(networks, image, DECODER, dataset, [0, 1], masks.add)
    assert [len(found) for found in lanes["int8"]] == [1, 1]
    assert masks.of("int8") == 0.5
