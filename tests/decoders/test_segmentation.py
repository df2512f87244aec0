import cv2
import numpy as np
import pytest
from official_cases import official_cases

from trt_lane.decoders.segmentation import Segmentation
from trt_lane.metrics.culane import CulaneCounts, score_image

# pytorch-auto-drive 137e63a, configs/lane_detection/scnn/resnet18_{culane,tusimple}.py
CULANE = Segmentation(frame_hw=(590, 1640), input_hw=(288, 800))
TUSIMPLE = Segmentation(
    frame_hw=(720, 1280),
    input_hw=(360, 640),
    lanes=6,
    max_lanes=5,
    gap_px=10,
    points=56,
    first_gap=1,
    lift_px=0,
)
SMALL = Segmentation((100, 200), (50, 100), lanes=2, gap_px=10, points=8, blur_px=3)


def heads(decoder, lanes=(), shape=None):
    """Logits of straight vertical lanes: (class, column of the map)."""
    height, width = shape or decoder.input_hw
    out = np.zeros((decoder.lanes + 1, height, width), np.float32)
    out[0] = 8
    lane = np.full(decoder.lanes, -8, np.float32)
    for i, column in lanes:
        out[i + 1] = 12 - np.abs(np.arange(width) - column)
        lane[i] = 8
    return {"out": out, "lane": lane}


def test_equals_the_official_postprocessing(shared):
    cases = official_cases(shared, "segmentation")
    assert sum(len(lanes) for _, lanes in cases) > 40
    for given, expected in cases:
        found = CULANE(**{name: value[0] for name, value in given.items()})
        assert len(found) == len(expected)
        for points, lane in zip(found.lanes(), expected, strict=True):
            official = np.float64(lane["points"])  # x truncated to whole pixels
            assert points.shape == official.shape
            assert (points[:, 1] == official[:, 1]).all()
            cut = points[:, 0] - official[:, 0]
            assert ((cut > -1e-3) & (cut < 1 + 1e-3)).all()


def test_reads_the_real_maps_of_the_original_network(shared):
    folder = shared / "data" / "scnn_probability_maps"
    decoder = Segmentation(frame_hw=(590, 1640), input_hw=(351, 976))
    counts = CulaneCounts()
    for flags in sorted(folder.glob("*.exist.txt")):
        frame = flags.name.partition(".")[0]
        exist = np.float32(flags.read_text().split())
        maps = [cv2.imread(str(folder / f"{frame}_{i}_avg.png"), 0) / 255 for i in range(1, 5)]
        probabilities = np.clip([1 - np.sum(maps, axis=0), *maps], 1e-4, 1)
        found = decoder(out=np.log(probabilities), lane=10 * exist - 5)
        assert len(found) == exist.sum()
        labels = shared / "data/culane/driver_ego/drive.MP4" / f"{frame}.lines.txt"
        lines = [np.float64(t.split()).reshape(-1, 2) for t in labels.read_text().splitlines() if t]
        counts += score_image(found, lines)[0]
    assert counts.tp + counts.fn == 26  # ego lines labelled on the 15 frames
    assert counts.recall > 0.9  # only the ego lines are labelled, so precision says nothing


def test_lane_goes_from_the_bottom_upwards_in_frame_pixels():
    lanes = SMALL(**heads(SMALL, [(0, 30)]))
    assert lanes.points[0, :, 0].tolist() == [60] * 8
    assert lanes.points[0, :, 1].tolist() == list(range(99, 28, -10))
    assert lanes.frame_hw == (100, 200)


def test_coarse_map_is_brought_to_the_input_size_with_aligned_corners():
    coarse = heads(SMALL, [(1, 4)], shape=(10, 20))
    lanes = SMALL(**coarse)
    # map column 4 of 0..19 lies at 4 * 99 / 19 = 20.8 of 0..99, so at 21 of 100 columns
    assert lanes.points[0, 0, 0] == pytest.approx(42)


def test_tusimple_points_lie_on_the_benchmarks_rows():
    lanes = TUSIMPLE(**heads(TUSIMPLE, [(2, 100)]))
    assert lanes.points[0, :, 1].tolist() == list(range(710, 150, -10))
    assert lanes.points[0, :, 0].tolist() == [200] * 56


def test_no_lane_exists_means_no_lanes():
    lanes = SMALL(**heads(SMALL))
    assert len(lanes) == 0 and lanes.points.shape == (0, 0, 2)


def test_lane_that_does_not_exist_is_not_read():
    given = heads(SMALL, [(0, 30), (1, 70)])
    given["lane"][0] = 0  # probability 0.5 is not above 0.5
    assert SMALL(**given).points[0, 0, 0] == 140


def test_existing_lane_without_probability_is_dropped():
    given = heads(SMALL)
    given["lane"][:] = 5
    assert len(SMALL(**given)) == 0


def test_single_point_is_no_lane():
    given = heads(SMALL, [(0, 30)])
    sound = given["out"][1].copy()
    given["out"][1, :46] = -8  # the first point is read in row 49, the second in row 44
    assert len(SMALL(**given)) == 0
    given["out"][1, 43:46] = sound[43:46]
    assert len(SMALL(**given)) == 1


def test_first_column_means_no_point():
    assert len(SMALL(**heads(SMALL, [(0, 0)]))) == 0


def test_row_tie_goes_to_the_left():
    decoder = Segmentation((100, 200), (50, 100), lanes=1, gap_px=10, points=8, blur_px=1)
    given = heads(decoder, [(0, 30)])
    given["out"][1, :, 60] = 12
    assert decoder(**given).points[0, 0, 0] == 60


def test_least_certain_lane_goes_when_there_are_too_many():
    given = heads(TUSIMPLE, [(i, 100 * i + 50) for i in range(6)])
    given["lane"][3] = 2
    lanes = TUSIMPLE(**given)
    assert lanes.points[:, 0, 0].tolist() == [100, 300, 500, 900, 1100]


def test_lanes_tied_for_the_last_place_all_go():
    given = heads(TUSIMPLE, [(i, 100 * i + 50) for i in range(6)])
    given["lane"][[1, 4]] = 2
    assert len(TUSIMPLE(**given)) == 4


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_unsound_numbers_give_no_lanes_there(poison):
    given = heads(SMALL, [(0, 30), (1, 70)])
    given["lane"][0] = poison
    assert SMALL(**given).points[:, 0, 0].tolist() == [140]
    given = heads(SMALL, [(0, 30), (1, 70)])
    given["out"][:, :, :50] = poison
    assert SMALL(**given).points[:, 0, 0].tolist() == [140]
    given["out"][:] = poison
    given["lane"][:] = poison
    assert len(SMALL(**given)) == 0


def test_huge_numbers_give_finite_scores():
    given = heads(SMALL, [(0, 30)])
    lanes = SMALL(out=given["out"] * 1e36, lane=given["lane"] * 1e36)
    assert lanes.scores.tolist() == [1]


@pytest.mark.parametrize(
    ("out", "lane"),
    [
        ((3, 50, 100), (3,)),
        ((3, 50, 100), (1, 2)),
        ((4, 50, 100), (2,)),
        ((1, 3, 50, 100), (2,)),
        ((3, 100, 50), (2,)),
        ((3, 0, 100), (2,)),
    ],
)
def test_wrong_shape_is_an_error(out, lane):
    with pytest.raises(ValueError, match="expected"):
        SMALL(out=np.zeros(out, np.float32), lane=np.zeros(lane, np.float32))


@pytest.mark.parametrize(
    "numbers",
    [{"lanes": 0}, {"blur_px": 4}, {"threshold": np.nan}, {"max_lanes": -1}, {"lift_px": 0}],
)
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError):
        Segmentation((590, 1640), (288, 800), **numbers)
