import dataclasses

import pytest

from engines.target import (
    BuilderKind,
    FloatType,
    Target,
    default_target,
    list_targets,
    load_target,
    read_target,
)
from trt_lane.errors import TrtLaneError

EXPECTED = {"cpu", "rtx", "local", "jetson-orin", "jetson-thor", "drive-orin", "rtx4090"}


def test_every_promised_target_is_there():
    assert set(list_targets()) >= EXPECTED


@pytest.mark.parametrize("name", list_targets())
def test_every_target_loads_and_gpus_compute_in_fp16(name):
    target = load_target(name)
    assert target.name == name and target.description
    on_cpu = target.builder is BuilderKind.ONNXRUNTIME
    assert target.float_type is (FloatType.FP32 if on_cpu else FloatType.FP16)


def test_drive_orin_takes_tensorrt_10_only_and_jetson_orin_11_too():
    assert load_target("drive-orin").accepts("10.13.3") and not load_target("drive-orin").accepts(
        "11.0"
    )
    assert load_target("jetson-orin").accepts("11.4.1") and not load_target("jetson-orin").accepts(
        "12.0"
    )
    assert load_target("jetson-orin").accepts("10.3.0.26")
    assert not load_target("jetson-orin").accepts("10.2.9")


def test_unknown_target_names_the_known_ones():
    with pytest.raises(TrtLaneError, match=r"no target 'orin'.*jetson-orin"):
        load_target("orin")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('precision = "int8"', r"unknown key 'precision'; known keys: .*float_type"),
        ("compute_capabilities = [8]", "sm_87"),
        ('compute_capabilities = ["87"]', "sm_87"),
        ('version_range = ["11", "10.3"]', "version_range"),
        ('version_range = ["new", "12"]', "no version"),
        ("= nothing", "cannot read"),
    ],
)
def test_a_wrong_target_file_is_one_clear_error(tmp_path, line, message):
    path = tmp_path / "car.toml"
    path.write_text(f'description = "x"\nbuilder = "tensorrt"\nfloat_type = "fp16"\n{line}\n')
    with pytest.raises(TrtLaneError, match=message):
        read_target(path)


def test_a_missing_key_or_a_wrong_builder_is_an_error(tmp_path):
    path = tmp_path / "car.toml"
    path.write_text('description = "x"\nbuilder = "tvm"\nfloat_type = "fp16"\n')
    with pytest.raises(TrtLaneError, match="tvm"):
        read_target(path)
    path.write_text('description = "x"\nbuilder = "tensorrt"\n')
    with pytest.raises(TrtLaneError, match="float_type"):
        read_target(path)


def test_a_target_cannot_be_changed():
    target: Target = load_target("cpu")
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.name = "x"


def test_the_default_is_a_target_that_this_machine_can_build():
    assert default_target() in ("local", "rtx", "cpu")
