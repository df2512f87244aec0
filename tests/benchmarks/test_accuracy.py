import json

import numpy as np
import pytest
from made_reports import made_culane, made_latency, made_report

from benchmarks.accuracy import Accuracy, Form, drawn_row, figures_of, judge
from benchmarks.bench_report import BenchmarkReport
from benchmarks.worst_frames import worst_frames
from trt_lane.datasets.base import Dataset, Label
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.report import MF1_IOUS
from trt_lane.model import Metric

HW = (590, 1640)


def straight(x):
    y = np.arange(580, 290, -10.0)
    return np.stack([np.full_like(y, x), y], axis=1)


def lanes(*xs):
    return LaneSet.from_lanes([straight(x) for x in xs], HW)


class Roads(Dataset):
    """Three roads with two lanes each; the last one is a crossroad without lanes."""

    name, spec, metric = "roads", "roads", Metric.CULANE

    def __init__(self, annotated):
        self.annotated = annotated

    def __len__(self):
        return len(self.annotated)

    def frame(self, index):
        return np.full((*HW, 3), index, np.uint8)

    def label(self, index):
        category = ("normal", "curve", "cross")[index % 3]
        return Label(f"{index}.jpg", self.annotated[index], category)

    def digest(self):
        return "d"


class Answers:
    """Gives the lanes of the frame whose number every pixel holds."""

    def __init__(self, found):
        self.found = found

    def detect(self, frame):
        return self.found[int(frame[0, 0, 0])]


ANNOTATED = [lanes(400, 900), lanes(400, 900), lanes(), None]
ENGINE = [lanes(400, 900), lanes(406), lanes(700), lanes(400)]
FLOAT = [lanes(400, 900), lanes(400, 900), lanes(), lanes()]


@pytest.fixture(scope="module")
def judged():
    detectors = {"engine": Answers(ENGINE), "float": Answers(FLOAT)}
    return judge(detectors, Roads(ANNOTATED), range(4))


def test_counts_and_figures_are_those_of_the_lanes(judged):
    figures = judged.accuracy.figures()
    # 3 found at IoU .5 (6 of 30 px beside: IoU .67), 1 made up on the crossroad, 1 missed
    assert figures["F1"] == {"engine": pytest.approx(6 / 8), "float": 1.0}
    assert figures["F1 at .75"]["engine"] == pytest.approx(4 / 8)
    assert figures["mF1"]["engine"] == pytest.approx((4 * 6 / 8 + 6 * 4 / 8) / 10)
    assert figures["agreement F1"]["engine"] == pytest.approx(6 / 8)
    assert figures["LDS px"]["engine"] > 0 == figures["LDS px"]["float"]


def test_frames_without_a_label_are_left_out(judged):
    assert judged.accuracy.frames == ("0.jpg", "1.jpg", "2.jpg")
    assert judged.indices == (0, 1, 2)


def test_crossroads_tell_only_what_was_made_up(judged):
    assert judged.accuracy.by_category() == {
        "cross": {"frames": 1, "engine": 1, "float": 0},
        "curve": {"frames": 1, "engine": pytest.approx(2 / 3), "float": 1.0},
        "normal": {"frames": 1, "engine": 1.0, "float": 1.0},
    }


def test_a_row_holds_the_official_counts_at_every_iou():
    row = drawn_row(Metric.CULANE, lanes(406, 1200), lanes(400, 900))
    assert row[:2] == [2, 2]
    # 24 of 36 px are shared: IoU .667
    assert row[2:] == [1 if iou < 0.66 else 0 for iou in MF1_IOUS]


def test_worst_frames_come_first_and_are_pictures(judged):
    shown = worst_frames(judged, Roads(ANNOTATED), 2)
    assert [s["name"] for s in shown] == ["2.jpg", "1.jpg"]
    assert "LDS 30.0 px" in shown[0]["caption"] and "1 made up" in shown[0]["caption"]
    import base64

    import cv2

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(shown[0]["jpeg"]), np.uint8), 1)
    assert picture.shape == (230, 640, 3)


def test_data_without_labels_is_judged_by_agreement_alone():
    unlabelled = Roads([None, None])
    unlabelled.metric = None
    found = judge(
        {"engine": Answers(ENGINE), "float": Answers(FLOAT)}, unlabelled, range(2)
    ).accuracy
    assert set(found.figures()) == {"agreement F1", "LDS px"}
    assert found.by_category() == {}


def test_rows_that_do_not_fit_the_frames_are_refused():
    with pytest.raises(ValueError, match="one row per frame"):
        Accuracy("d", "d", "culane", ("a",), ("",), {"engine": Form(np.zeros((2, 12), int))})


def test_fewer_predicted_lanes_than_found_ones_are_a_negative_fp_as_officially():
    form = Form(tusimple=np.array([[1.0, -1.0, 0.0], [0.9, 0.25, 0.5]]))
    assert np.array_equal(Form.from_dict(form.to_dict()).tusimple, form.tusimple)
    for row in ([-0.1, 0.0, 0.0], [0.9, 0.0, -0.5], [0.9, np.nan, 0.0]):
        with pytest.raises(ValueError, match="not finite, or below 0"):
            Form(tusimple=np.array([row]))


def test_frames_that_have_no_label_are_worth_their_agreement_alone():
    lanes = [LaneSet.from_lanes([straight(800.0)], HW)]
    found = figures_of(Metric.CULANE, [Label("a.jpg")], lanes, lanes)
    assert found == {"agreement F1": 1.0, "LDS px": 0.0}


def test_report_and_back_keeps_every_figure(tmp_path):
    report = made_report(made_latency(0), made_culane())
    report.save(tmp_path / "report.json")
    again = BenchmarkReport.load(tmp_path)
    again.save(tmp_path / "again.json")
    assert BenchmarkReport.load(tmp_path / "again.json").to_dict() == again.to_dict()
    assert again.accuracy.figures() == report.accuracy.figures()
    assert again.latency.summary()["stages"]["total"]["p50"] == pytest.approx(
        report.latency.summary()["stages"]["total"]["p50"], abs=1e-4
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema=99), "schema 99"),
        (lambda v: v.update(kind="recipe"), "no report"),
        (lambda v: v.pop("latency"), "damaged"),
        (lambda v: v["latency"]["starts"][0].update(ms=[[1.0]]), "damaged"),
        (lambda v: v["environment"].update(states=[{"when": "never"}]), "damaged"),
    ],
)
def test_damaged_reports_are_one_line(tmp_path, change, message):
    report = made_report(made_latency(0))
    values = report.to_dict()
    values = json.loads(json.dumps(values))
    change(values)
    (tmp_path / "report.json").write_text(json.dumps(values))
    with pytest.raises(TrtLaneError, match=message):
        BenchmarkReport.load(tmp_path / "report.json")
