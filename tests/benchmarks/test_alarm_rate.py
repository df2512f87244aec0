import pytest
from made_reports import made_culane, made_latency, made_report

from benchmarks.alarm_rate import alarm_rate, lost_lanes, planted_losses, told


def test_every_planted_slow_down_is_counted_and_no_alarm_is_false():
    seeds = iter(range(1000))

    def bench(slow_downs):
        return [made_report(made_latency(next(seeds), 10 * (1 + s))) for s in slow_downs]

    found = alarm_rate(bench, 10, 0.1)
    assert found["slower_engine"] == {"worse": 10}
    assert found["same_engine"].get("worse", 0) == 0
    assert sum(found["same_engine"].values()) == 10


def test_after_every_pair_all_verdicts_so_far_are_handed_over_with_their_figures():
    kept = []

    def bench(slow_downs):
        return [made_report(made_latency(i, 10 * (1 + s))) for i, s in enumerate(slow_downs)]

    alarm_rate(bench, 2, 0.1, keep=lambda found: kept.append(len(found["outcomes"])))
    assert kept == [2, 4]
    found = alarm_rate(bench, 1, 0.1)
    assert found["pairs"] == 1
    planted = {one["planted"]: one for one in found["outcomes"]}
    change, low, high = planted[0.1]["frame_percent"]
    assert low < change < high and 7 < change < 13
    assert planted[0.1]["machine_percent"][1] < 0 < planted[0.1]["machine_percent"][2]
    assert told(planted[0.1]).startswith(f"a frame took {change:+.1f} %")


def test_lost_lanes_cost_the_points_that_were_asked_for():
    report = made_report(made_latency(0), made_culane())
    worse = lost_lanes(report.accuracy, 0.5, seed=3)
    lost = 100 * (report.accuracy.figures()["F1"]["engine"] - worse.figures()["F1"]["engine"])
    assert 0.5 <= lost < 0.65
    assert report.accuracy.forms["engine"].culane.sum() == made_culane().sum()


def test_half_a_point_lost_at_random_is_found_20_of_20():
    assert planted_losses(made_report(made_latency(0), made_culane()), 20) == {"worse": 20}


def test_more_points_than_there_are_cannot_be_lost():
    accuracy = made_report(made_latency(0), made_culane(frames=10)).accuracy
    with pytest.raises(ValueError, match="cannot be lost"):
        lost_lanes(accuracy, 99.9, seed=0)
