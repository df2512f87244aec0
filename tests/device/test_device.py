"""Parsers on outputs in the documented formats of tegrastats, nvpmodel, sysfs and NVML."""

import os
from types import SimpleNamespace

import pytest

from trt_lane.device import sysfs, tegrastats
from trt_lane.device.nvml import Nvml, throttle_reasons
from trt_lane.device.state import DeviceState

# Forms of the Jetson Linux Developer Guide and of boards' logs in NVIDIA's forum: Orin with
# JetPack 6, Xavier NX with JetPack 5, Nano with JetPack 4.
ORIN = (
    "11-23-2025 10:32:12 RAM 3046/30697MB (lfb 4x4MB) SWAP 0/15348MB (cached 0MB) CPU "
    "[3%@729,0%@1190,off,off,0%@729,0%@729,off,off] GR3D_FREQ 62%@[611,611] NVENC off cv0@-256C "
    "cpu@45.437C soc2@42.281C gpu@42.687C tj@45.437C VDD_GPU_SOC 1193mW/1193mW VDD_CPU_CV "
    "397mW/397mW VIN_SYS_5V0 2416mW/2416mW VDDQ_VDD2_1V8AO 302mW/302mW"
)
XAVIER = (
    "RAM 2345/7771MB (lfb 1x1MB) SWAP 0/3885MB (cached 0MB) CPU [1%@1190,0%@1190] EMC_FREQ "
    "0%@1600 GR3D_FREQ 0%@114 APE 150 AO@38C GPU@38C PMIC@100C AUX@38C CPU@39.5C thermal@38.7C "
    "VDD_IN 3212mW/3212mW VDD_CPU_GPU_CV 321mW/321mW VDD_SOC 924mW/924mW"
)
NANO = (
    "RAM 1290/3956MB (lfb 2x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU "
    "[13%@102,4%@102,off,off] EMC_FREQ 0% GR3D_FREQ 0% PLL@36C CPU@39C PMIC@100C GPU@38C "
    "AO@45.5C thermal@38.5C POM_5V_IN 1664/1664 POM_5V_GPU 0/0 POM_5V_CPU 206/206"
)


def test_tegrastats_of_orin():
    state = tegrastats.parse(ORIN)
    assert state.clocks_mhz == {"cpu": 1190.0, "gpu": 611.0}
    assert state.temperatures_c == {"cpu": 45.437, "soc2": 42.281, "gpu": 42.687, "tj": 45.437}
    # GPU_SOC + CPU_CV + SYS_5V0; VDDQ hangs on the last one
    assert state.power_w == pytest.approx(1.193 + 0.397 + 2.416)
    assert state.memory_used_mb == 3046


@pytest.mark.parametrize("trap", ["", "trap '' TERM"], ids=["ends when told", "does not"])
def test_tegrastats_that_never_ends_is_read_and_ended(tmp_path, monkeypatch, trap):
    program = tmp_path / "tegrastats"
    program.write_text(
        f"#!/bin/sh\n{trap}\necho $$ > {tmp_path}/pid\necho '{ORIN}'\n"
        "while :; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tegrastats, "_INTERVAL_MS", 500)  # a busy machine starts slowly
    monkeypatch.setattr(tegrastats, "_WAIT_S", 0.3)
    assert tegrastats.read() == tegrastats.parse(ORIN)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_tegrastats_of_xavier_knows_the_memory_clock_and_the_boards_power():
    state = tegrastats.parse(XAVIER)
    assert state.clocks_mhz == {"cpu": 1190.0, "gpu": 114.0, "memory": 1600.0}
    assert "pmic" not in state.temperatures_c
    assert state.temperatures_c["thermal"] == 38.7
    assert state.power_w == 3.212


def test_tegrastats_of_nano_has_power_without_a_unit_and_no_gpu_clock():
    state = tegrastats.parse(NANO)
    assert state.power_w == 1.664
    assert state.clocks_mhz == {"cpu": 102.0}


def test_tegrastats_of_thor_has_clocks_without_a_load_and_a_supply():
    state = tegrastats.parse(
        "12-02-2025 10:00:00 RAM 5400/125772MB (lfb 20x4MB) SWAP 0/0MB (cached 0MB) CPU "
        "[2%@2601,0%@2601] GR3D_FREQ @[1574,1574,1574] tj@48.2C gpu@46.8C VDD_GPU 3961mW/3961mW "
        "VDD_CPU_SOC_MSS 6733mW/6733mW VIN_SYS_5V0 4853mW/4853mW VIN 24811mW/24811mW"
    )
    assert state.clocks_mhz == {"cpu": 2601.0, "gpu": 1574.0}
    assert state.power_w == 24.811


def test_a_line_of_something_else_says_nothing():
    assert tegrastats.parse("no such device") == DeviceState()


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN (0)"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_30W\n2\n", "MODE_30W (2)"),
        ("NV Power Mode: 25W", "25W"),
        ("nvpmodel: command failed", None),
    ],
)
def test_power_mode_of_nvpmodel(text, mode):
    assert sysfs.power_mode(text) == mode


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64", "36.4"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "35.4.1"),
        ("Ubuntu", None),
    ],
)
def test_release_of_jetson_linux(text, release):
    assert sysfs.l4t_release(text) == release


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "2201600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2201600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2201600\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1300500000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "611000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "47593\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "proc/loadavg": "0.52 0.61 0.70 1/512 12345\n",
    "proc/stat": "cpu  1000 50 200 9000 30 10 10 30 0 0\ncpu0 500 25 100 4500 15 5 5 15 0 0\n",
}


def test_a_jetsons_files_tell_board_jetpack_governor_and_unpinned_clocks(tmp_path):
    root = write(tmp_path, JETSON)
    assert sysfs.facts(root) == {
        "board": "NVIDIA Jetson AGX Orin Developer Kit",
        "l4t": "36.4.3",
        "jetpack": "6.2",
        "cpu_governor": "schedutil",
        "clocks_locked": "no",
    }
    state = sysfs.state(root)
    assert state.clocks_mhz == {"cpu": 2201.6, "gpu": 611.0}
    assert state.temperatures_c == {"cpu": 47.593}
    assert state.load_average == 0.52
    assert sysfs.busy_seconds(root) == (12.7, 0.3)


def test_clocks_whose_limits_meet_are_locked(tmp_path):
    root = write(tmp_path, {**JETSON, "sys/class/devfreq/17000000.gpu/min_freq": "1300500000\n"})
    assert sysfs.clocks_locked(root) is True


def test_a_pcs_throttle_events_and_energy_are_read(tmp_path):
    files = {
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "9\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
        "sys/class/powercap/intel-rapl:0:0/energy_uj": "4000000\n",
        "sys/class/powercap/intel-rapl:1/energy_uj": "1500000\n",
    }
    state = sysfs.state(write(tmp_path, files))
    assert state.throttle_counts == {"core thermal limit": 9}
    assert state.throttle is None
    assert state.energy_j == 6.5


OVER_CURRENT = {
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "99\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc2_event_cnt": "15\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "27390\n",
    "sys/class/hwmon/hwmon3/oc3_throt_en": "1\n",
}


def test_a_jetsons_over_current_events_are_counted(tmp_path):
    state = sysfs.state(write(tmp_path, {**JETSON, **OVER_CURRENT}))
    assert state.throttle_counts == {
        "over-current 1": 0,
        "over-current 2": 15,
        "over-current 3": 27390,
    }
    assert state.throttle is None


@pytest.mark.parametrize(("gpu", "words"), [("0", ()), ("1", ("gpu thermal limit",))])
def test_a_jetson_that_is_hot_says_what_it_slows_down(tmp_path, gpu, words):
    alerts = {"pwm-fan": "3", "cpu-throttle-alert": "0", "gpu-throttle-alert": gpu}
    for number, (name, value) in enumerate(alerts.items()):
        folder = f"sys/class/thermal/cooling_device{number}"
        write(tmp_path, {f"{folder}/type": f"{name}\n", f"{folder}/cur_state": f"{value}\n"})
    assert sysfs.state(tmp_path).throttle == words


def test_that_nothing_throttles_is_kept_where_only_one_of_two_could_tell():
    silent, free = DeviceState(), DeviceState(throttle=())
    assert silent.joined(silent).throttle is None
    assert silent.joined(free).throttle == free.joined(silent).throttle == ()
    hot, capped = DeviceState(throttle=("hot",)), DeviceState(throttle=("capped", "hot"))
    assert hot.joined(capped).throttle == ("hot", "capped")


def test_an_empty_root_says_nothing(tmp_path):
    assert sysfs.facts(tmp_path) == {}
    assert sysfs.state(tmp_path) == DeviceState()
    assert sysfs.busy_seconds(tmp_path) is None


def test_this_machine_answers():
    assert sysfs.state().load_average >= 0
    busy, stolen = sysfs.busy_seconds()
    assert busy > 0 and stolen >= 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, ()),
        (0x1, ()),  # idle
        (0x2, ()),  # application clocks
        (0x4, ("software power cap",)),
        (0x48, ("hardware slowdown", "hardware thermal slowdown")),
        (0x20, ("software thermal slowdown",)),
    ],
)
def test_throttle_bits_of_nvml_in_words(mask, words):
    assert throttle_reasons(mask) == words


class NVMLError(Exception):
    pass


def not_supported(handle):
    raise NVMLError("Not Supported")


# What NVML says of an RTX 4090 at its power limit; a card without a counter has no energy.
RECORDED = SimpleNamespace(
    NVMLError=NVMLError,
    NVML_CLOCK_SM=1,
    NVML_CLOCK_MEM=2,
    NVML_TEMPERATURE_GPU=0,
    nvmlDeviceGetName=lambda handle: "NVIDIA GeForce RTX 4090",
    nvmlDeviceGetCudaComputeCapability=lambda handle: (8, 9),
    nvmlSystemGetDriverVersion=lambda: "560.35.03",
    nvmlSystemGetCudaDriverVersion_v2=lambda: 12060,
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=25757220864, used=1048576000),
    nvmlDeviceGetMaxClockInfo=lambda handle, kind: {1: 3120, 2: 10501}[kind],
    nvmlDeviceGetClockInfo=lambda handle, kind: {1: 2520, 2: 10501}[kind],
    nvmlDeviceGetTemperature=lambda handle, sensor: 71,
    nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x4,
    nvmlDeviceGetPowerUsage=lambda handle: 449_310,
    nvmlDeviceGetTotalEnergyConsumption=not_supported,
)


def test_nvml_facts_and_state():
    gpu = Nvml(RECORDED, object())
    assert gpu.facts() == {
        "gpu": "NVIDIA GeForce RTX 4090",
        "sm": "sm_89",
        "driver": "560.35.03",
        "cuda_driver": "12.6",
        "gpu_memory": "24.0 GiB",
        "gpu_max_mhz": "3120",
        "memory_max_mhz": "10501",
    }
    state = gpu.state()
    assert state.clocks_mhz == {"gpu": 2520.0, "memory": 10501.0}
    assert state.throttle == ("software power cap",)
    assert state.power_w == 449.31
    assert state.energy_j is None
    silent = {**vars(RECORDED), "nvmlDeviceGetCurrentClocksThrottleReasons": not_supported}
    assert Nvml(SimpleNamespace(**silent), object()).state().throttle is None
    assert state.memory_used_mb == 1000
