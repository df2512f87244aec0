"""Identity of boards whose files were recorded; the formats are those of the systems named."""

import pytest

from trt_lane.device.identity import driver_version, identity, jetpack_version, power_mode

ORIN = {  # Jetson AGX Orin, JetPack 6.2
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
    "TARGET_USERSPACE_LIB_DIR=nvidia\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_ID="22.04"\n',
    "var/lib/dpkg/status": "Package: nvidia-jetpack-dev\nStatus: install ok installed\n"
    "Version: 6.2+b77\n\nPackage: nvidia-jetpack\nStatus: install ok installed\n"
    "Version: 6.2+b77\nDepends: nvidia-jetpack-runtime (= 6.2+b77)\n\n",
    "etc/nvpmodel.conf": "# MAXN is the NONE power model to release all constraints\n"
    "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n\n< POWER_MODEL ID=1 NAME=MODE_15W >\n"
    "CPU_ONLINE CORE_0 1\n\n< POWER_MODEL ID=2 NAME=MODE_30W >\n< PM_CONFIG DEFAULT=2 >\n",
    "var/lib/nvpmodel/status": "pmode:0000",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  "
    "540.4.0  Release Build  (buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:35:12 PST 2025\n"
    "GCC version:  collect2: error: ld returned 1 exit status\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1300500000",
    "sys/class/devfreq/17000000.gpu/max_freq": "1300500000",
}
THOR = {  # Jetson AGX Thor, JetPack 7.0, no package of its own
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, "
    "EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n"
    "< PM_CONFIG DEFAULT=1 >\n",
}
DESKTOP = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD Ryzen 9 5950X "
    "16-Core Processor\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  "
    "Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc version 11.4.0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
}


@pytest.fixture
def recorded(tmp_path):
    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_orin_with_jetpack_6(recorded):
    found = identity(recorded(ORIN))
    assert found.items() >= {
        "board": "NVIDIA Jetson AGX Orin Developer Kit", "l4t": "36.4.3", "jetpack": "6.2",
        "driver": "540.4.0", "power_mode": "MAXN (0)", "system": "Ubuntu 22.04.5 LTS",
        "clocks_locked": "yes",
    }.items()  # fmt: skip


def test_thor_with_jetpack_7_runs_in_its_default_mode(recorded):
    found = identity(recorded(THOR))
    assert (found["board"], found["l4t"], found["jetpack"]) == (
        "NVIDIA Jetson AGX Thor Developer Kit", "38.2", "7.0",
    )  # fmt: skip
    assert found["power_mode"] == "120W (1), by default" and "driver" not in found


def test_a_desktop_has_a_cpu_a_driver_and_a_governor(recorded):
    found = identity(recorded(DESKTOP))
    assert found.items() >= {
        "cpu": "AMD Ryzen 9 5950X 16-Core Processor", "driver": "535.183.01",
        "cpu_governor": "schedutil",
    }.items()  # fmt: skip
    assert not {"board", "jetpack", "power_mode"} & found.keys()


def test_a_machine_that_says_nothing_is_named_all_the_same(tmp_path):
    found = identity(tmp_path)
    assert found["cpu"] == "?" and found["machine"] and found["system"]


def test_a_removed_jetpack_package_does_not_count(recorded):
    status = ORIN["var/lib/dpkg/status"].replace(
        "install ok installed", "deinstall ok config-files"
    )
    root = recorded({"var/lib/dpkg/status": status})
    assert jetpack_version(root) is None


def test_a_mode_that_the_table_lacks_is_told_by_its_number(recorded):
    assert power_mode(recorded({"var/lib/nvpmodel/status": "pmode:0007 fmode:quiet"})) == "mode (7)"


def test_what_is_no_version_of_a_driver_is_none():
    assert driver_version("") is None
    assert driver_version("NVRM version: unknown") is None
