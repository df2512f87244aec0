import json

import pytest
from made_cells import made_cell

from benchmarks.quant_markdown import markdown
from benchmarks.quant_rows import mean_points, row

FLOATS = [[0.9, 0, 0], [0.8, 0, 0]]
LEARNING = {"unit": "block", "units": 8, "steps": 200, "steps_after": 50, "batch": 32}


def table(*cells, failed=None):
    rows = [{"model": "m.a", **row([cell])} for cell in cells]
    if failed:
        rows.append({"model": "m.a", "method": "int8_gone", "failed": failed})
    return {
        "machine": {"cpu": "A CPU", "threads": 1, "cores": 2, "python": "3.11", "versions": {}},
        "calibration_frames": 64,
        "models": {
            "m.a": {
                "weights": "w.pth",
                "weights_sha256": "0123456789abcdef",
                "data": "tusimple:frames",
                "calibration_data": "images:others",
            }
        },
        "rows": rows,
        "mean_points": mean_points(rows),
    }


def test_steps_of_blocks_before_the_network_are_said():
    cell = made_cell(FLOATS, FLOATS)
    learning = {"unit": "network", "units": 1, "steps": 500, "steps_after": 0, "batch": 4}
    for blocks, said in (({}, "1 x 500 steps x 4"), ({"block_steps": 0}, "1 x 500 steps x 4")):
        assert f"| {said} |" in markdown(table({**cell, "learning": {**learning, **blocks}}))
    text = markdown(table({**cell, "learning": {**learning, "block_steps": 60}}))
    assert "1 x 500 (and 60 a block before) steps x 4" in text


def body(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_every_row_has_as_many_cells_as_the_heading():
    text = markdown(
        table(
            made_cell(FLOATS, FLOATS),
            made_cell(FLOATS, FLOATS, learning=LEARNING, method="int8_qdrop"),
            failed="no memory",
        )
    )
    rows = text[: text.index("## Mean")].splitlines()
    widths = {line.count("|") for line in rows if line.startswith("|")}
    assert len(widths) == 1


@pytest.mark.parametrize("metric", ["culane", None])
def test_recall_stands_beside_f1_only(metric):
    counts = [[1, 0, 1], [2, 0, 0]]
    text = markdown(table(made_cell(counts, counts, metric)))
    assert ("| recall |" in text) == (metric == "culane")
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) <= 2


def test_a_failed_method_is_shown_with_its_reason():
    text = markdown(table(made_cell(FLOATS, FLOATS), failed="killed by SIGKILL | no memory"))
    (line,) = [line for line in body(text) if "int8_gone" in line]
    assert "failed: killed by SIGKILL / no memory" in line


def test_a_model_of_which_everything_failed_is_still_shown():
    only = table(failed="bad checkpoint")
    assert "- int8_gone: failed: bad checkpoint" in markdown(only)


def test_low_bits_are_called_simulated_and_explained():
    low = made_cell(FLOATS, FLOATS, bits=[4, 8], simulated=True)
    text = markdown(table(low))
    assert "| W4A8 simulated |" in text
    assert "Simulated: TensorRT runs INT8 only" in text
    assert "imulated" not in markdown(table(made_cell(FLOATS, FLOATS)))


def test_marks_are_explained_where_they_stand():
    text = markdown(
        table(
            made_cell(FLOATS, FLOATS, old_code=True, resumed=True, learning=LEARNING),
        )
    )
    assert "int8_x †" in text
    assert "| 2 ‡ |" in text
    assert "8 x 200+50 steps x 32" in text
    assert all(f"{mark}: " in text for mark in "†‡")


def test_cells_of_other_threads_than_the_headings_are_marked_and_named():
    same, other = made_cell(FLOATS, FLOATS), made_cell(FLOATS, FLOATS, method="b", threads=2)
    text = markdown(table(same, other))
    first, second = [line for line in body(text) if line.startswith(("| int8_x", "| b"))][:2]
    assert "§" not in first and "| 2 § |" in second
    assert "than the heading's 1, kept from an earlier table: b on m.a with 2." in text
    assert "§" not in markdown(table(same))


def test_one_seed_of_other_threads_marks_its_row():
    seeds = [made_cell(FLOATS, FLOATS, seed=i, threads=i + 1) for i in range(3)]
    mixed = {"model": "m.a", **row(seeds)}
    text = markdown({**table(), "rows": [mixed], "mean_points": {}})
    assert "| 2 § |" in text and "int8_x on m.a with 2, 3." in text


def test_tables_that_hold_one_number_of_threads_are_still_read():
    whole = table(made_cell(FLOATS, FLOATS))
    for threads, marked in ((1, False), (2, True)):
        rows = [{**r, "threads": threads} for r in whole["rows"]]
        assert ("§" in markdown({**whole, "rows": rows})) == marked


def test_warnings_of_a_method_are_told():
    text = markdown(table(made_cell(FLOATS, FLOATS, warnings=["no foreground"])))
    assert "Warning of int8_x on m.a: no foreground." in text


def test_conditions_stand_above_the_rows():
    text = markdown(table(made_cell(FLOATS, FLOATS)))
    head = text[: text.index("| method")]
    for fact in ("A CPU, 1 of 2 cores", "64 unlabelled", "images:others", "accuracy 0.8500"):
        assert fact in head
    json.dumps(table(made_cell(FLOATS, FLOATS)), allow_nan=False)
