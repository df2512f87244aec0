import numpy as np
import pytest
from made_reports import made_latency

from benchmarks.latency import Latency, Start, jitter_ms, spread
from benchmarks.timeline import drift_share, findings, round_medians, two_modes


def start_of(totals, rounds):
    ms = np.outer(totals, (0.2, 0.8, 1.0))
    return Start(ms, np.cumsum(totals) / 1e3, rounds, np.ones(max(rounds) + 1), 1.0)


def latency_of(*starts):
    return Latency(("network", "decode", "total"), starts, 1e-4, ())


def test_percentiles_are_those_of_all_frames_and_told_only_where_enough_lie_beyond():
    latency = latency_of(start_of(np.arange(1.0, 101.0), [0] * 100))
    total = latency.summary()["stages"]["total"]
    assert total["p50"] == 50.5
    assert total["p90"] == pytest.approx(90.1)
    assert total["p99"] is None and total["p99.9"] is None
    assert total["max"] == 100.0


def test_deadline_misses_are_frames_that_outlast_a_cameras_interval():
    latency = latency_of(start_of([10.0, 20.0, 40.0, 120.0], [0] * 4))
    misses = latency.summary()["deadline_misses"]
    assert misses == {"10": 0.25, "20": 0.25, "30": 0.5, "60": 0.75}


def test_jitter_is_between_neighbours_and_never_across_rounds():
    latency = latency_of(start_of([1.0, 3.0, 100.0, 101.0], [0, 0, 1, 1]))
    assert jitter_ms(latency) == pytest.approx((2.0 + 1.0) / 2)


def test_capture_is_told_beside_the_stages_but_is_no_part_of_the_total():
    start = start_of([5.0] * 10, [0] * 10)
    summary = Latency(("network", "decode", "total"), (start,), 1e-4, [30.0, 32.0]).summary()
    assert summary["stages"]["capture"]["p50"] == 31.0
    assert summary["stages"]["total"]["p50"] == 5.0


def test_json_and_back_keeps_every_time():
    latency = made_latency(0)
    again = Latency.from_dict(latency.to_dict())
    np.testing.assert_allclose(again.of("total"), latency.of("total"), atol=1e-4)
    assert again.stages == latency.stages
    assert again.summary()["rounds"] == 24


@pytest.mark.parametrize(
    "broken",
    [
        {"ms": np.zeros((0, 3)), "begun_s": [], "round_of": []},
        {"ms": [[np.nan] * 3], "begun_s": [0], "round_of": [0]},
        {"ms": [[1.0] * 3], "begun_s": [0, 1], "round_of": [0]},
    ],
)
def test_times_that_cannot_be_are_refused(broken):
    with pytest.raises(ValueError):
        Start(canary_ms=[1.0], cpu_s=1.0, **broken)


def test_spread_of_equal_starts_is_zero_and_of_one_unknown():
    assert spread(np.array([10.0] * 6)) == 0.0
    assert spread(np.array([10.0])) == np.inf
    # t(.975, 5) = 2.571, s = 0.2160, sqrt(6) = 2.449: 0.2267 of 10.05
    assert spread(np.array([9.8, 9.9, 10.0, 10.1, 10.2, 10.4])) == pytest.approx(0.02256, abs=1e-5)


def test_steady_times_have_no_findings():
    assert findings(made_latency(1)) == []


def test_a_slow_rise_is_told_as_drift():
    values = 10 * (1 + 0.08 * np.arange(24) / 23) + np.random.default_rng(0).normal(0, 0.05, 24)
    assert drift_share(values) == pytest.approx(0.08, abs=0.01)
    assert drift_share(values[::-1]) == pytest.approx(-0.08, abs=0.015)


def test_noise_is_no_drift_in_99_of_100_series():
    rng = np.random.default_rng(5)
    false = sum(drift_share(rng.normal(10, 0.5, 24)) != 0 for _ in range(200))
    assert false <= 4


def test_two_modes_are_found_with_their_places_and_share():
    rng = np.random.default_rng(2)
    ms = np.concatenate([rng.normal(5, 0.15, 700), rng.normal(8, 0.2, 300)])
    low, high, share = two_modes(ms)
    assert (low, high) == pytest.approx((5, 8), rel=0.02)
    assert share == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("seed", range(8))
def test_one_mode_with_a_long_tail_is_one(seed):
    rng = np.random.default_rng(seed)
    assert two_modes(rng.lognormal(2, 0.1, 800)) is None
    assert two_modes(5 + rng.exponential(0.5, 800)) is None


def test_a_clock_of_coarse_steps_makes_no_modes():
    assert two_modes(np.round(np.random.default_rng(0).normal(10, 0.2, 900), 2)) is None


def test_stalls_and_starts_that_differ_are_told():
    slow = [start_of([10.0] * 50, [0] * 50), start_of([12.0] * 50, [0] * 50)]
    words = " ".join(findings(latency_of(*slow, start_of([10.0] * 49 + [90.0], [0] * 50))))
    assert "starts differ" in words and "between 10 and 12 ms" in words
    assert "stalls: 0.67 %" in words


def test_round_medians_are_in_the_order_of_running():
    latency = latency_of(start_of([1.0, 1.0, 3.0, 3.0], [0, 0, 1, 1]), start_of([2.0, 2.0], [0, 0]))
    assert round_medians(latency).tolist() == [1.0, 3.0, 2.0]
