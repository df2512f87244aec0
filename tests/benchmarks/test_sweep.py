"""A sweep's shards give the same report however they are cut, resumed, or lose their workers."""

import io
import json
import zipfile
from importlib.util import find_spec

import killed_workers
import numpy as np
import pytest
from tiny_artifact import make_artifact

from benchmarks.__main__ import main
from benchmarks.cell_specs import parse_model, parse_recipe
from benchmarks.sweep.driver import sweep
from benchmarks.sweep.merged import markdown, merged
from benchmarks.sweep.plan import engine_path, plan_cells, plan_shards, shard_path
from benchmarks.sweep.pools import Failure, LocalPool, RayPool
from benchmarks.sweep.tasks import score_shard, unpacked
from trt_lane.errors import TrtLaneError

DATA = "synthetic:test:6:410x148"
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="ray is not installed; make test-all does it"
)


@pytest.fixture(scope="module")
def ray_pool():
    """A Ray of two workers on this machine."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed; make test-all does it")
    with RayPool("local:2") as pool:
        import ray

        # Workers do not have this folder of tests to import from.
        ray.cloudpickle.register_pickle_by_value(killed_workers)
        yield pool


@pytest.fixture(params=["local", pytest.param("ray", marks=needs_ray)])
def pool(request):
    return LocalPool(2) if request.param == "local" else request.getfixturevalue("ray_pool")


def test_calls_give_their_values_by_index(pool):
    found = dict(pool.run(killed_workers.square, [(i,) for i in range(5)]))
    assert found == {i: i * i for i in range(5)}


def test_a_killed_worker_costs_no_result(pool, tmp_path):
    function = killed_workers.square_killed_once
    calls = [(str(tmp_path / "killed"), i) for i in range(6)]
    assert dict(pool.run(function, calls)) == {i: i * i for i in range(6)}
    assert (tmp_path / "killed").exists()


def test_a_call_that_always_kills_fails_alone(pool):
    found = dict(pool.run(killed_workers.square_killed_always, [(i,) for i in range(5)]))
    assert isinstance(found.pop(3), Failure)
    assert found == {i: i * i for i in (0, 1, 2, 4)}


def test_a_users_mistake_is_a_failure_of_one_line_and_not_made_again(pool):
    found = dict(pool.run(killed_workers.refused, [(0,), (1,)]))
    assert found == {0: 0, 1: Failure("no such frame")}


def test_without_ray_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrtLaneError, match=r"pip install --editable '\.\[workshop,cluster\]'"):
        RayPool("auto")


@needs_ray
def test_an_address_without_a_cluster_is_told_at_once():
    with pytest.raises(TrtLaneError, match=r"no Ray cluster at 127\.0\.0\.1:9: Connection"):
        RayPool("127.0.0.1:9")


@pytest.fixture(scope="module")
def cells():
    model = parse_model(f"ufld@{DATA}@synthetic:calibration:2:410x148")
    return plan_cells([model], [parse_recipe("int8_minmax")], [0, 1], ["cpu"], 2)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A tiny engine in the place of the cells' own, which take a minute to make."""
    folder = make_artifact(tmp_path_factory.mktemp("sweep") / "engine").folder
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"engine/{path.name}")
    return buffer.getvalue()


def with_engines(work, cells, engine):
    for cell in cells:
        engine_path(cell, work).parent.mkdir(parents=True)
        engine_path(cell, work).write_bytes(engine)
    return work


class InThisProcess:
    """A pool that is none."""

    def __init__(self, allowed=1000):
        self.allowed, self.calls = allowed, 0

    def run(self, function, calls):
        for index, call in enumerate(calls):
            if self.calls == self.allowed:
                raise KeyboardInterrupt
            self.calls += 1
            yield index, function(*call)


@pytest.fixture(scope="module")
def expected(cells, engine, tmp_path_factory):
    work = with_engines(tmp_path_factory.mktemp("work"), cells, engine)
    return sweep(cells, {"ufld": plan_shards(DATA, 6, None)}, InThisProcess(), work)


def test_cells_are_a_float_one_and_every_recipe_with_seeds_only_where_it_learns(cells):
    assert [c.label for c in cells] == ["ufld float", "ufld int8_minmax cpu"]
    model = cells[0].model
    learned = plan_cells([model], [parse_recipe("int8_selective_focus")], [0, 1], ["cpu", "rtx"], 2)
    assert len(learned) == 5
    assert len({c.identity() for c in learned}) == 5
    # No TensorRT builds here for a device elsewhere: its graph is what is scored.
    assert [c[0] for c in learned[2].commands()] == ["calibrators", "engines"]
    assert [c[0] for c in learned[1].commands()] == ["calibrators", "engines", "engines"]


def test_shards_cover_every_frame_once():
    shards = plan_shards("synthetic:test:10", 4, None)
    assert [(s.start, s.stop) for s in shards] == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in plan_shards("synthetic:test:10", 4, 5)] == [(0, 4), (4, 5)]


def test_report_holds_figures_intervals_and_categories(expected):
    first, second = expected["rows"]
    assert (first["method"], second["method"]) == ("float", "int8_minmax")
    assert first["frames"] == 6 and first["metric"] == "F1"
    assert second["points_to_float"] == 0.0 and second["points_interval"] == [0.0, 0.0]
    assert second["interval"][0] <= second["value"] <= second["interval"][1]
    assert sum(entry["frames"] for entry in first["categories"].values()) == 6
    assert 0 < first["int8_share"] <= 1
    assert "| ufld | int8_minmax | cpu | 6 |" in markdown(expected)


def test_cut_into_shards_and_with_a_worker_killed_the_report_is_the_same(
    pool, cells, engine, expected, tmp_path
):
    work = with_engines(tmp_path / "work", cells, engine)
    marker = tmp_path / "killed"

    class Killing:
        def run(self, function, calls):
            assert function is score_shard or not calls
            killing = killed_workers.scored_killed_once
            return pool.run(killing, [(str(marker), *call) for call in calls])

    said = []
    found = sweep(cells, {"ufld": plan_shards(DATA, 2, None)}, Killing(), work, said.append)
    assert marker.exists()
    assert json.dumps(found) == json.dumps(expected)
    assert sum("scored" in line for line in said) == 6


def test_an_interrupted_sweep_goes_on_where_it_was(cells, engine, expected, tmp_path):
    work = with_engines(tmp_path, cells, engine)
    shards = {"ufld": plan_shards(DATA, 2, None)}
    with pytest.raises(KeyboardInterrupt):
        sweep(cells, shards, InThisProcess(4), work)
    # A file that was damaged meanwhile is made again too.
    shard_path(cells[0], shards["ufld"][0], work).write_text("{")
    again = InThisProcess()
    assert sweep(cells, shards, again, work) == expected
    assert again.calls == 3


def test_an_interrupt_ends_the_workers_at_once_and_with_what_they_hold(tmp_path):
    import time

    calls = [(str(tmp_path), i) for i in range(4)]
    with pytest.raises(KeyboardInterrupt):
        for _ in LocalPool(2).run(killed_workers.first_at_once_others_for_a_minute, calls):
            # Both hold theirs: a signal between making a folder and holding it would leave it.
            while len(list(tmp_path.glob("*/begun"))) < 2:
                time.sleep(0.05)
            begun = time.monotonic()
            raise KeyboardInterrupt
    assert time.monotonic() - begun < 30
    assert list(tmp_path.iterdir()) == []


def test_data_without_a_label_fail_in_words(cells):
    empty = {"metric": "culane", "names": [], "categories": [], "rows": []}
    report = merged(cells, {cell: [empty] for cell in cells}, {}, {})
    assert [r["failed"] for r in report["rows"]] == ["none of its frames has a label"] * 2
    assert "none of its frames has a label" in markdown(report)


def test_a_row_of_fewer_seeds_says_so(expected):
    row = {**expected["rows"][1], "failed": "no memory", "failed_seeds": 1}
    assert "int8_minmax (1 seeds failed: no memory) | cpu | 6 |" in markdown({"rows": [row]})


def test_rows_name_their_data(expected):
    assert {row["data"] for row in expected["rows"]} == {DATA}


def test_a_cell_that_fails_is_told_and_the_others_stand(cells, engine, tmp_path):
    work = with_engines(tmp_path, cells[:1], engine)

    class Refusing(InThisProcess):
        def run(self, function, calls):
            if function.__name__ == "make_engine":
                return iter([(0, Failure("calibrators: no memory"))])
            return super().run(function, calls)

    report = sweep(cells, {"ufld": plan_shards(DATA, 6, None)}, Refusing(), work)
    assert report["rows"][0]["frames"] == 6
    assert report["rows"][1]["failed"] == "calibrators: no memory"
    assert "failed: calibrators: no memory" in markdown(report)


def test_a_kept_engine_that_is_damaged_is_one_line(tmp_path):
    with pytest.raises(TrtLaneError, match="a kept engine is damaged"):
        unpacked(b"PK", tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ufld", "int8_minmax", "0", "jetson"], "no target 'jetson'"),
        (["ufld", "int8_minmax", "--shard", "0"], "shards of 0"),
        (["ufld", "int8_minmax", "--jobs", "2", "--ray", "auto"], "give one of them"),
        (["ufld ufld", "int8_minmax"], "each once"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["sweep", *words]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


@pytest.mark.slow
def test_the_command_makes_and_scores_real_engines(tmp_path, capsys):
    spec = f"ufld@{DATA}@synthetic:calibration:2:410x148"
    few = ["--shard", "3", "--calibration-frames", "2", "--jobs", "2"]
    kept = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "sweep")]
    assert main(["sweep", spec, "int8_minmax", "0", "cpu rtx", *few, *kept]) == 0
    rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert [(r["method"], r["target"]) for r in rows] == [
        ("float", "float"), ("int8_minmax", "cpu"), ("int8_minmax", "rtx"),
    ]  # fmt: skip
    assert all(np.isfinite(r["value"]) for r in rows)
    assert rows[1]["int8_share"] > 0.9 and rows[2]["int8_share"] is None
    assert rows[1]["bytes"] < rows[0]["bytes"] / 2
    capsys.readouterr()
    assert main(["sweep", spec, "int8_minmax", "0", "cpu rtx", *few, *kept]) == 0
    assert "3 of 3 engines are there already" in capsys.readouterr().out
