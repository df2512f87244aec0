"""Rows of the merged report: what is one row, and what its figures are the mean of."""

import io
import zipfile

import pytest

from benchmarks.__main__ import main
from benchmarks.cell_specs import parse_model, parse_recipe
from benchmarks.sweep.merged import markdown, merged
from benchmarks.sweep.plan import plan_cells
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.report import MF1_IOUS
from trt_lane.metrics.tusimple import score_image

MODEL = "ufld@synthetic:test:2:410x148@synthetic:calibration:2:410x148"


def graph_alone():
    """As make_engine packs what is built elsewhere."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", b"graph")
    return buffer.getvalue()


def culane_shard(found_lanes):
    """A frame with two annotated lanes of category curve, and one of a crossroad with none."""
    return {
        "metric": "culane",
        "names": ["a", "b"],
        "categories": ["curve", "cross"],
        "rows": [
            [2, 2, *[found_lanes] * len(MF1_IOUS)],
            [2 - found_lanes, 0, *[0] * len(MF1_IOUS)],
        ],
    }


def cells_of(recipes, seeds):
    return plan_cells([parse_model(MODEL)], [parse_recipe(r) for r in recipes], seeds, ["rtx"], 2)


def merged_of(cells, shards):
    engines = dict.fromkeys(cells, graph_alone())
    return merged(cells, dict(zip(cells, shards, strict=True)), engines, {})


def test_step_factors_of_one_recipe_are_rows_of_their_own():
    cells = cells_of(["int8_qdrop:0.01", "int8_qdrop:0.1"], [0])
    assert [c.label for c in cells[1:]] == [
        "ufld int8_qdrop (steps x 0.01) seed 0 rtx",
        "ufld int8_qdrop (steps x 0.1) seed 0 rtx",
    ]
    rows = merged_of(cells, [[culane_shard(n)] for n in (2, 1, 2)])["rows"]
    assert [r["method"] for r in rows] == [
        "float", "int8_qdrop (steps x 0.01)", "int8_qdrop (steps x 0.1)",
    ]  # fmt: skip
    assert [r["seeds"] for r in rows] == [[0], [0], [0]]
    assert rows[1]["value"] < rows[2]["value"] == 1.0


def test_categories_are_the_mean_over_seeds_as_the_value_is():
    cells = cells_of(["int8_qdrop:0.01"], [0, 1])
    row = merged_of(cells, [[culane_shard(n)] for n in (2, 2, 1)])["rows"][1]
    assert row["seeds"] == [0, 1]
    assert row["categories"] == {
        "cross": {"frames": 1, "engine": 0.5},  # 0 and 1 false positives
        "curve": {"frames": 1, "engine": 0.75},  # F1 of 1 and 0.5
    }
    assert row["value"] == pytest.approx((1 + 2 / 5) / 2)
    assert "| ufld | int8_qdrop (steps x 0.01) | rtx | 2 |" in markdown({"rows": [row]})


def test_a_shard_with_an_official_fp_below_0_is_merged():
    # Two annotated lanes are found by one prediction: (1 - 2) / 1.
    score = score_image([[100.0, 100.0]], [[95.0, 95.0], [105.0, 105.0]], [500, 510])
    assert score.fp == -1.0
    shard = {
        "metric": "tusimple",
        "names": ["a", "b"],
        "categories": ["", ""],
        "rows": [[score.accuracy, score.fp, score.fn], [0.5, 0.0, 0.5]],
    }
    row = merged_of(cells_of(["int8_minmax"], [0]), [[shard]] * 2)["rows"][1]
    assert (row["metric"], row["value"]) == ("accuracy", 0.75)
    assert row["categories"] == {}
    assert row["interval"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MODEL, "int8_minmax int8_mse int8_minmax"], "recipes: int8_minmax more than once"),
        # Nothing is learned: without steps a factor is none.
        ([MODEL, "int8_minmax int8_minmax:0.5"], "recipes: int8_minmax more than once"),
        ([MODEL, "int8_minmax", "0", "cpu rtx cpu"], "targets: cpu more than once"),
    ],
)
def test_what_is_named_twice_is_refused(words, message, capsys, tmp_path):
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "sweep")]
    assert main(["sweep", *words, *places]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_two_recipe_files_of_one_stem_are_refused(tmp_path):
    text = parse_recipe("int8_minmax").path.read_text(encoding="utf-8")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TrtLaneError, match="recipes: mine more than once"):
        cells_of([str(tmp_path / folder / "mine.toml") for folder in ("one", "two")], [0])
