import ast
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_reports import made_latency, made_report

from benchmarks.environment import Environment, EnvironmentReader, cpu_seconds, driver_facts
from trt_lane.device.state import DeviceState

FACTS = {"cpu": "Model T", "cores": 2, "threads": 1, "runtime": "onnxruntime 1.32.0"}


def environment(*states, **facts):
    return Environment({**FACTS, **facts}, {"numpy": "2.4.6"}, "abc", states, 1.0, 1.2)


def state(when, **values):
    return DeviceState(when=when, **values)


def test_the_same_machine_has_no_differences():
    assert environment().differences(environment()) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (environment(cpu="Model A"), "cpu is Model T against Model A"),
        (environment(threads=2), "threads is 1 against 2"),
        (environment(runtime="onnxruntime 1.33.0"), "runtime is onnxruntime 1.32.0 against"),
        (environment(power_mode="MAXN (0)"), "power mode is ? against MAXN (0)"),
        (replace(environment(), versions={"numpy": "2.5.0"}), "numpy is 2.4.6 against 2.5.0"),
    ],
)
def test_another_device_or_version_is_named(other, words):
    (found,) = environment().differences(other)
    assert words in found


ON_GPU = {"runtime": "tensorrt 10.3.0", "sm": "sm_89"}


def test_two_gpus_that_nobody_named_are_not_one_device():
    unnamed = environment(**ON_GPU)
    (found,) = unnamed.differences(environment(**ON_GPU))
    assert found.startswith("the GPU is unknown on both sides; pip install nvidia-ml-py")
    assert unnamed.warnings() == ["the GPU is unknown; pip install nvidia-ml-py and measure again"]
    (found,) = unnamed.differences(environment(**ON_GPU, gpu="NVIDIA GeForce RTX 4090"))
    assert found == "gpu is ? against NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize("name", [{"gpu": "RTX 4090"}, {"board": "NVIDIA Jetson AGX Orin"}])
def test_a_gpu_is_known_by_its_own_name_or_the_boards(name):
    known = environment(**ON_GPU, **name)
    assert known.differences(known) == [] and known.warnings() == []


def test_a_report_of_a_gpu_that_nobody_named_warns():
    report = made_report(made_latency(0), **ON_GPU)
    assert any("pip install nvidia-ml-py" in warning for warning in report.warnings())
    assert not any("GPU" in warning for warning in made_report(made_latency(0)).warnings())


def test_without_nvml_the_driver_tells_compute_capability_and_cuda(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "backends")
    from recording import Recording

    recording = Recording()
    recording.reset(capability=89)
    assert driver_facts(str(recording.path)) == {"sm": "sm_89", "cuda_driver": "12.6"}
    assert driver_facts("no_such_driver.so") == {}


def test_who_installs_for_a_gpu_or_in_the_workshop_gets_the_module_that_names_the_gpu():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("gpu", "workshop"):
        listed = ast.literal_eval(re.search(rf"^{extra} = (\[.*?\])$", text, re.M | re.S)[1])
        assert any(entry.startswith("nvidia-ml-py>=") for entry in listed), extra


def test_another_clock_is_another_machine():
    slow = environment(state("during", clocks_mhz={"gpu": 1300.0}))
    fast = environment(state("during", clocks_mhz={"gpu": 1410.0}))
    assert fast.differences(slow) == ["gpu clock was 1410 MHz against 1300 MHz"]
    assert fast.differences(fast) == []


def test_throttling_is_told_from_reasons_and_from_counters():
    before, after = ({"core thermal limit": n} for n in (7, 9))
    held = environment(
        state("before", throttle_counts=before),
        state("during", throttle=("software power cap",)),
        state("after", throttle_counts=after),
    )
    assert held.throttled() == ("core thermal limit", "software power cap")
    free = environment(state("before", throttle_counts=before), state("after"))
    assert free.throttled() == () and held.warnings() == []


def test_over_current_is_a_warning_and_no_other_device():
    before, after = ({"over-current 2": 15, "over-current 3": n} for n in (7, 186))
    found = environment(
        state("before", throttle_counts=before), state("after", throttle_counts=after)
    )
    assert found.throttled() == () and found.differences(environment()) == []
    (warning,) = found.warnings()
    assert warning.startswith("over-current 3 rose by 179 meanwhile")


def test_energy_is_the_counters_rise_and_a_counter_that_wrapped_says_nothing():
    rising = environment(state("before", energy_j=10.0), state("after", energy_j=14.5))
    assert rising.energy_j() == 4.5
    wrapped = environment(state("before", energy_j=10.0), state("after", energy_j=1.0))
    assert wrapped.energy_j() is None
    assert environment().energy_j() is None


def test_energy_without_a_counter_is_the_mean_power_times_the_time():
    found = environment(
        state("before", power_w=5.0),
        state("during", power_w=20.0, at_s=1.0),
        state("during", power_w=30.0, at_s=2.0),
        state("after", power_w=6.0, at_s=3.0),
    )
    assert found.energy_j() == 75.0


def test_json_and_back_is_equal():
    given = environment(state("before", clocks_mhz={"cpu": 1.0}, throttle=("hot",)), state("after"))
    assert Environment.from_dict(given.to_dict()) == given


def test_two_sources_of_a_state_are_joined_and_the_first_one_holds():
    gpu = state("during", clocks_mhz={"gpu": 2.0}, power_w=5.0)
    board = state("before", clocks_mhz={"gpu": 9.0, "cpu": 1.0}, power_w=7.0, load_average=0.5)
    both = gpu.joined(board)
    assert both.clocks_mhz == {"gpu": 2.0, "cpu": 1.0}
    assert (both.when, both.power_w, both.load_average) == ("during", 5.0, 0.5)


def test_the_machine_here_is_read_and_our_own_work_is_told_from_others(monkeypatch):
    monkeypatch.setattr("benchmarks.environment.WATCH_S", 0.02)
    with EnvironmentReader(1, "onnxruntime 1") as reader:
        own = cpu_seconds()
        with reader.watching():
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                sum(range(1000))
        found = reader.environment(cpu_seconds() - own)
    assert found.facts["cpu"] and found.facts["threads"] == 1
    when = [s.when for s in found.states]
    assert (when[0], when[-1]) == ("before", "after")
    assert set(when[1:-1]) == {"during"}
    assert found.own_cores > 0
    assert found.other_cores >= 0
    assert found.versions["numpy"]
