import json

import numpy as np
import pytest
from made_reports import made_culane, made_latency, made_report

from benchmarks.__main__ import main
from benchmarks.baselines import baseline_of, save_baseline
from benchmarks.compare import QUIET, compare
from benchmarks.environment import IDENTITY
from benchmarks.verdict import Scale, Word
from trt_lane.device.state import DeviceState
from trt_lane.errors import TrtLaneError


def latency_verdict(base, new):
    outcome = compare(made_report(base), made_report(new), ["total p50", QUIET])
    return outcome.exit_status


def test_same_engine_twice_raises_at_most_one_false_alarm_in_20():
    # 100 pairs of 6 processes whose levels differ by 1 % and whose frames hang together
    outcomes = [latency_verdict(made_latency(2 * i), made_latency(2 * i + 1)) for i in range(100)]
    assert outcomes.count(1) <= 3
    assert outcomes.count(0) >= 90


def test_a_slow_down_of_ten_percent_is_found_20_of_20():
    outcomes = [
        latency_verdict(made_latency(2 * i), made_latency(2 * i + 1, 11.0)) for i in range(40)
    ]
    assert outcomes == [1] * 40


def test_a_machine_too_noisy_to_tell_never_lets_a_slow_down_pass():
    outcomes = [
        latency_verdict(made_latency(2 * i, apart=0.08), made_latency(2 * i + 1, 11.0, apart=0.08))
        for i in range(40)
    ]
    assert 0 not in outcomes
    assert 2 in outcomes


def test_on_a_machine_that_others_use_undisturbed_frames_tell_a_slow_down():
    def contended(seed, level):
        rng = np.random.default_rng(10_000 + seed)
        made = made_latency(seed, level)
        for start in made.starts:  # other programs take their time slices, more or fewer of them
            hit = rng.random(len(start.ms)) < rng.uniform(0.2, 0.8)
            start.ms[hit] += 4.0 * np.array([0.1, 0.8, 0.1, 1.0])
        return made

    same = [latency_verdict(contended(2 * i, 10.0), contended(2 * i + 1, 10.0)) for i in range(40)]
    slow = [latency_verdict(contended(2 * i, 10.0), contended(2 * i + 1, 11.0)) for i in range(40)]
    assert same.count(1) <= 2
    assert slow.count(0) == 0 and slow.count(1) >= 35


def test_a_noisy_machine_says_so_with_the_figure():
    outcome = compare(
        made_report(made_latency(0, apart=0.1)), made_report(made_latency(1, apart=0.1))
    )
    first = outcome.verdicts[0]
    assert first.word is Word.NOISE and "the interval reaches +" in first.reason
    assert outcome.exit_status == 2


def test_a_machine_that_became_slower_is_not_blamed_on_the_engine():
    base, new = made_latency(0), made_latency(1, machine=1.1)
    outcome = compare(made_report(base), made_report(new))
    assert outcome.exit_status == 2
    assert "work of no model took +" in outcome.not_comparable[0]


def with_unsteady_canary(latency, changes):
    """Work of no model that took so much more time in each start."""
    from dataclasses import replace

    starts = tuple(
        replace(start, canary_ms=start.canary_ms * change)
        for start, change in zip(latency.starts, changes, strict=True)
    )
    return replace(latency, starts=starts)


def test_times_that_grew_with_those_of_work_of_no_model_are_no_alarm():
    # Too uneven to be sure that the machine changed, and as much as the frames did
    changes = (1.0, 1.1, 1.0, 1.06, 1.04, 1.05)
    base, new = made_latency(0, apart=0.002), made_latency(1, 10.4, apart=0.002)
    assert latency_verdict(base, new) == 1
    drifted = with_unsteady_canary(new, changes)
    outcome = compare(made_report(base), made_report(drifted))
    assert outcome.not_comparable == ()
    assert outcome.verdicts[0].word is Word.NOISE and outcome.exit_status == 2
    assert "the machine may have changed, not the engine" in outcome.verdicts[0].reason


def test_a_slow_down_beyond_the_machine_s_is_worse():
    changes = (1.0, 1.1, 1.0, 1.06, 1.04, 1.05)
    new = with_unsteady_canary(made_latency(1, 11.0, apart=0.002), changes)
    assert latency_verdict(made_latency(0, apart=0.002), new) == 1


def test_a_faster_machine_hides_no_slower_engine():
    changes = (1.0, 0.8, 0.99, 0.8, 0.85, 0.99)
    base, new = made_latency(0, apart=0.002), made_latency(1, apart=0.002)
    assert latency_verdict(base, new) == 0
    outcome = compare(made_report(base), made_report(with_unsteady_canary(new, changes)))
    assert outcome.not_comparable == ()
    assert outcome.verdicts[0].word is Word.NOISE and outcome.exit_status == 2
    assert "a faster machine may hide a slower engine" in outcome.verdicts[0].reason


def test_other_programs_in_one_of_the_two_runs_are_told():
    from dataclasses import replace

    base, new = made_report(made_latency(0)), made_report(made_latency(1))
    busy = replace(new, environment=replace(new.environment, busy_cores=1.9))
    outcome = compare(base, busy)
    assert outcome.exit_status == 2
    assert outcome.not_comparable == ("other programs kept 0.05 cores busy against 0.90",)


def test_a_faster_engine_is_better():
    outcome = compare(made_report(made_latency(0)), made_report(made_latency(1, 9.0)))
    assert outcome.verdicts[0].word is Word.BETTER
    assert outcome.exit_status == 0


@pytest.mark.parametrize("seed", range(20))
def test_half_a_point_of_f1_is_found_wherever_it_is_lost(seed):
    rng = np.random.default_rng(seed)
    base = made_culane()
    # F1 is near 95 %: 9 lanes of 900 lost are about half a point
    lost = [int(i) for i in rng.choice(300, 5, replace=False)]
    new = made_culane(lost=lost)
    for frame in lost[:4]:
        new[frame, 2:] = np.maximum(new[frame, 2:] - 1, 0)
    latency = made_latency(0)
    outcome = compare(made_report(latency, base), made_report(latency, new))
    (verdict,) = [v for v in outcome.verdicts if v.figure == "F1"]
    assert verdict.change >= 0.5
    assert verdict.word is Word.WORSE and outcome.exit_status == 1


def test_the_same_counts_are_the_same_with_no_doubt_left():
    report = made_report(made_latency(0), made_culane())
    (verdict,) = [v for v in compare(report, report).verdicts if v.figure == "F1"]
    assert [str(v) for v in (verdict.change, verdict.low, verdict.high)] == ["0.0"] * 3
    assert verdict.word is Word.SAME


def test_gains_and_losses_that_cannot_be_told_apart_are_noise_with_the_figure():
    rng = np.random.default_rng(0)
    base, new = made_culane(), made_culane()
    for counts in (base, new):
        for frame in rng.choice(300, 60, replace=False):
            counts[frame, 2:] = np.maximum(counts[frame, 2:] - 1, 0)
    outcome = compare(made_report(made_latency(0), base), made_report(made_latency(0), new))
    (verdict,) = [v for v in outcome.verdicts if v.figure == "F1"]
    assert verdict.word is Word.NOISE and "more frames narrow it" in verdict.reason
    assert outcome.exit_status == 2


def test_a_worse_figure_outweighs_one_that_cannot_be_told():
    noisy, quiet = made_latency(0, apart=0.1), made_latency(1, apart=0.1)
    lost = list(range(1, 60, 4))
    outcome = compare(made_report(noisy, made_culane()), made_report(quiet, made_culane(lost=lost)))
    assert outcome.exit_status == 1


def test_other_frames_are_not_compared():
    latency = made_latency(0)
    outcome = compare(
        made_report(latency, made_culane()), made_report(latency, made_culane(), digest="d2")
    )
    (verdict,) = [v for v in outcome.verdicts if v.figure == "F1"]
    assert verdict.word is Word.OTHER and "content changed" in verdict.reason
    assert outcome.exit_status == 2


def test_another_device_is_not_compared_and_named():
    latency = made_latency(0)
    outcome = compare(made_report(latency), made_report(latency, cpu="Model A"))
    assert outcome.exit_status == 2
    assert outcome.not_comparable == ("cpu is Model T against Model A",)


@pytest.mark.parametrize("fact", IDENTITY)
def test_every_fact_of_a_device_that_differs_is_named(fact):
    from dataclasses import replace

    report = made_report(made_latency(0))

    def with_fact(value):
        facts = {**report.environment.facts, fact: value}
        return replace(report, environment=replace(report.environment, facts=facts))

    base = with_fact("3.10.12")
    assert compare(base, with_fact("3.10.12")).not_comparable == ()
    for other, told in ((with_fact("3.12.4"), "3.12.4"), (with_fact(None), "?")):
        outcome = compare(base, other)
        assert outcome.exit_status == 2
        name = fact.replace("_", " ")
        assert outcome.not_comparable == (f"{name} is 3.10.12 against {told}",)


def test_versions_of_what_computes_are_compared():
    from dataclasses import replace

    report = made_report(made_latency(0))

    def with_versions(**versions):
        return replace(report, environment=replace(report.environment, versions=versions))

    base = with_versions(numpy="2.4.6", tensorrt="10.13.3")
    assert compare(base, base).not_comparable == ()
    for other, reason in (
        (with_versions(numpy="2.4.6", tensorrt="10.14.1"), "tensorrt is 10.13.3 against 10.14.1"),
        (with_versions(numpy="2.4.6"), "tensorrt is 10.13.3 against absent"),
    ):
        outcome = compare(base, other)
        assert outcome.exit_status == 2 and outcome.not_comparable == (reason,)


def test_the_same_frames_from_another_folder_are_compared_and_others_are_not():
    from dataclasses import replace

    report = made_report(made_latency(0))
    here = replace(report, conditions={"data": "images:a", "frames_sha256": "1"})
    there = replace(report, conditions={"data": "images:b", "frames_sha256": "1"})
    other = replace(report, conditions={"data": "images:b", "frames_sha256": "2"})
    assert compare(here, there).not_comparable == ()
    (reason,) = compare(here, other).not_comparable
    assert reason == "other frames were timed: of images:a against images:b"


def test_a_throttled_run_is_not_compared():
    from dataclasses import replace

    report = made_report(made_latency(0))
    states = (*report.environment.states, DeviceState("after", throttle=("hot",)))
    hot = replace(report, environment=replace(report.environment, states=states))
    assert compare(report, hot).not_comparable == ("new was throttled: hot",)


def test_two_models_are_a_mistake():
    from dataclasses import replace

    report = made_report(made_latency(0))
    with pytest.raises(TrtLaneError, match="of ufld, the other of lstr"):
        compare(report, replace(report, model="lstr"))


def test_accuracy_that_only_one_report_has_does_not_pass():
    latency = made_latency(0)
    with_f1, without = made_report(latency, made_culane()), made_report(latency)
    for pair, has in (((with_f1, without), "base"), ((without, with_f1), "new")):
        outcome = compare(*pair)
        (verdict,) = [v for v in outcome.verdicts if v.figure == "F1"]
        assert verdict.word is Word.OTHER and verdict.gates and f"only the {has}" in verdict.reason
        assert outcome.exit_status == 2
    assert compare(without, without).exit_status == 0  # nobody asked for it


def test_labels_of_another_kind_do_not_pass():
    from dataclasses import replace

    from benchmarks.accuracy import Form

    base = made_report(made_latency(0), made_culane(40))
    points = np.tile([0.9, 0.1, 0.1], (40, 1))
    forms = {"engine": Form(tusimple=points)}
    other = replace(base, accuracy=replace(base.accuracy, metric="tusimple", forms=forms))
    outcome = compare(base, other)
    assert outcome.exit_status == 2
    words = {v.figure: v.word for v in outcome.verdicts if v.gates}
    assert words["F1"] is words["accuracy"] is Word.OTHER


def tusimple_report(rows):
    from dataclasses import replace

    from benchmarks.accuracy import Form

    report = made_report(made_latency(0), made_culane(len(rows)))
    forms = {"engine": Form(tusimple=rows)}
    return replace(report, accuracy=replace(report.accuracy, metric="tusimple", forms=forms))


def test_invented_lanes_are_worse_though_accuracy_stays():
    base = np.tile([0.95, 0.0, 0.0], (200, 1))
    new = base.copy()
    new[::4, 1] = 0.2  # one lane of five in every fourth frame is of no road
    outcome = compare(tusimple_report(base), tusimple_report(new))
    found = {v.figure: v for v in outcome.verdicts}
    assert found["accuracy"].word is Word.SAME
    assert found["FP"].word is Word.WORSE and found["FP"].gates and outcome.exit_status == 1
    assert found["FP"].change == pytest.approx(5.0)


def test_false_positives_that_are_no_more_decide_only_where_they_were_asked_for():
    rng = np.random.default_rng(0)
    base = np.tile([0.95, 0.1, 0.1], (40, 1))
    new = base.copy()
    base[rng.choice(40, 8, replace=False), 1] = 0.35
    new[rng.choice(40, 8, replace=False), 1] = 0.35
    outcome = compare(tusimple_report(base), tusimple_report(new))
    (fp,) = [v for v in outcome.verdicts if v.figure == "FP"]
    assert fp.word is Word.NOISE and not fp.gates and outcome.exit_status == 0
    assert compare(tusimple_report(base), tusimple_report(new), ["FP"]).exit_status == 2


def test_f1_of_all_thresholds_is_judged_too():
    base, new = made_culane(), made_culane()
    new[:, 6] = 0  # nothing is found at IoU .7 any more
    report = made_report(made_latency(0), base)
    outcome = compare(report, made_report(made_latency(0), new))
    found = {v.figure: v for v in outcome.verdicts}
    assert found["F1"].word is Word.SAME
    assert found["mF1"].word is Word.WORSE
    figures = report.accuracy.figures()
    assert found["mF1"].base == pytest.approx(figures["mF1"]["engine"])


@pytest.mark.parametrize("frames", [1, 9])
def test_a_handful_of_frames_tells_nothing_about_f1(frames):
    latency = made_latency(0)
    base, new = made_culane(frames), made_culane(frames, lost=[0])
    for other in (base, new):
        outcome = compare(made_report(latency, base), made_report(latency, other))
        (verdict,) = [v for v in outcome.verdicts if v.figure == "F1"]
        assert verdict.word is Word.NOISE and "expected 10 or more" in verdict.reason
        assert outcome.exit_status == 2


def test_a_clock_that_only_one_report_knows_and_one_of_a_short_run_are_compared():
    from dataclasses import replace

    def clocked(*clocks):
        report = made_report(made_latency(0))
        states = tuple(
            DeviceState(when, clocks_mhz={} if mhz is None else {"gpu": mhz})
            for when, mhz in zip(("before", "during", "after"), clocks, strict=True)
            if when != "during" or mhz is not None
        )
        return replace(report, environment=replace(report.environment, states=states))

    fast = clocked(1300.0, 1300.0, 1300.0)
    for other, reason in (
        (clocked(900.0, 900.0, 900.0), "gpu clock was 1300 MHz against 900 MHz"),
        (clocked(900.0, None, 900.0), "gpu clock was 1300 MHz against 900 MHz"),
        (clocked(None, None, None), "gpu clock was 1300 MHz against ?"),
    ):
        outcome = compare(fast, other)
        assert outcome.exit_status == 2 and outcome.not_comparable == (reason,)
    # Idle before and after, the same while it ran.
    assert compare(fast, clocked(300.0, 1300.0, 300.0)).not_comparable == ()


def test_a_stage_that_takes_no_time_is_the_same_as_itself():
    from dataclasses import replace

    made = made_latency(0)
    starts = tuple(replace(s, ms=s.ms * np.array([1, 1, 0, 1])) for s in made.starts)
    report = made_report(replace(made, starts=starts))
    (verdict,) = [v for v in compare(report, report).verdicts if v.figure == "decode p50"]
    assert (verdict.change, verdict.low, verdict.high) == (0, 0, 0)


@pytest.mark.parametrize("gate", ["F2", "total p50 "])
def test_a_misspelt_gate_beside_a_right_one_is_a_mistake(tmp_path, capsys, gate):
    made_report(made_latency(0)).save(tmp_path / "report.json")
    words = ["compare", str(tmp_path), str(tmp_path), "--gate", "total p50", gate]
    assert main(words) == 2
    assert f"no figure {gate!r}; known figures:" in capsys.readouterr().err


def test_agreement_decides_where_it_is_asked_for():
    from dataclasses import replace

    report = made_report(made_latency(0), made_culane(40))
    alike = {"agreement": np.tile([3, 0, 0], (40, 1)), "distortion_px": np.zeros(40)}
    form = replace(report.accuracy.forms["engine"], **alike)
    whole = replace(report, accuracy=replace(report.accuracy, forms={"engine": form}))
    assert [v.figure for v in compare(whole, whole, ["agreement F1"]).verdicts if v.gates] == [
        "agreement F1"
    ]
    assert "agreement F1" not in {v.figure for v in compare(whole, whole).verdicts if v.gates}


def test_an_old_verdict_does_not_outlive_a_failure(tmp_path, capsys):
    made_report(made_latency(0)).save(tmp_path / "report.json")
    out = tmp_path / "verdict.json"
    assert main(["compare", *[str(tmp_path)] * 2, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["exit_status"] == 0
    assert main(["compare", str(tmp_path), str(tmp_path / "gone"), "--out", str(out)]) == 2
    assert not out.exists()
    capsys.readouterr()


def test_a_baselines_name_cannot_lead_elsewhere(tmp_path):
    from dataclasses import replace

    report = made_report(made_latency(0))
    for change in ({"target": "../x"}, {"model": "a/b"}, {"recipe": ".."}):
        with pytest.raises(TrtLaneError, match="expected letters"):
            save_baseline(replace(report, **change), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_no_report_has_is_a_mistake():
    report = made_report(made_latency(0))
    with pytest.raises(TrtLaneError, match="no figure F2 in both reports"):
        compare(report, report, ["F2"])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.03, 0.2, Word.WORSE),
        (0.0, 0.05, Word.SAME),
        (0.01, 0.08, Word.NOISE),
        (-0.2, -0.03, Word.BETTER),
        (-0.2, 0.2, Word.NOISE),
        (-0.2, 0.0, Word.SAME),
    ],
)
def test_words_of_intervals(low, high, word):
    assert Scale(0.02, 0.07).word(low, high) is word


def test_command_prints_a_verdict_per_figure_and_exits_with_it(tmp_path, capsys):
    made_report(made_latency(0), made_culane()).save(tmp_path / "base" / "report.json")
    made_report(made_latency(1, 11.5), made_culane()).save(tmp_path / "new.json")
    words = [str(tmp_path / "base"), str(tmp_path / "new.json"), "--out", str(tmp_path / "v.json")]
    assert main(["compare", *words]) == 1
    printed = capsys.readouterr().out
    assert "total p50       *" in printed and "WORSE" in printed
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["exit_status"] == 1
    assert {v["figure"] for v in written["verdicts"]} >= {"total p50", "total p99", "F1"}


def test_a_baseline_is_kept_per_target_and_found_again(tmp_path):
    report = made_report(made_latency(0), made_culane())
    path = save_baseline(report, tmp_path)
    assert path == tmp_path / "cpu" / "ufld-int8_mse.json"
    assert compare(baseline_of(report, tmp_path), report).exit_status == 0
    with pytest.raises(TrtLaneError, match="--save-baseline"):
        baseline_of(report, tmp_path / "empty")
