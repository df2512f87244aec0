from types import SimpleNamespace

import pytest

from engines.target import load_target
from trt_lane.building import compat
from trt_lane.building.recipe import BuilderKind
from trt_lane.errors import TrtLaneError

FLAGS_10 = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)


def builder(version, **names):
    return SimpleNamespace(__version__=version, **names)


def test_tensorrt_10_is_told_to_be_strongly_typed():
    assert compat.network_flags(builder("10.3.0", NetworkDefinitionCreationFlag=FLAGS_10)) == 2


def test_tensorrt_11_needs_no_flag_where_it_has_none():
    empty = SimpleNamespace()
    assert compat.network_flags(builder("11.4.0", NetworkDefinitionCreationFlag=empty)) == 0
    assert compat.network_flags(builder("11.4.0")) == 0


def test_a_builder_without_strong_types_is_refused():
    old = SimpleNamespace(EXPLICIT_BATCH=0)
    with pytest.raises(TrtLaneError, match=r"8\.6.*10\.3"):
        compat.network_flags(builder("8.6.1", NetworkDefinitionCreationFlag=old))


@pytest.mark.parametrize(
    ("target", "version", "accepted"),
    [
        ("jetson-orin", "10.3.0.30", True),
        ("jetson-orin", "11.4.0", True),
        ("jetson-orin", "10.2.0", False),
        ("drive-orin", "11.0.0", False),
        ("local", "12.0", False),
    ],
)
def test_versions_outside_the_range_of_a_target_are_refused(target, version, accepted):
    if accepted:
        compat.check_version(load_target(target).recipe, version)
        return
    with pytest.raises(TrtLaneError, match=rf"{version}.*accepts from"):
        compat.check_version(load_target(target).recipe, version)


def test_rtx_has_no_use_for_a_timing_cache():
    full = builder("1.7", ITimingCache=object)
    assert not compat.has_timing_cache(full, BuilderKind.TENSORRT_RTX)
    assert compat.has_timing_cache(full, BuilderKind.TENSORRT)


def test_a_capability_that_the_builder_lacks_is_refused_with_those_it_has():
    trt = builder("1.7", ComputeCapability=SimpleNamespace(SM86=1, SM89=2, NONE=0))
    with pytest.raises(TrtLaneError, match=r"SM110; it knows SM86, SM89"):
        compat.set_compute_capabilities(trt, SimpleNamespace(), (86, 110))


def test_a_builder_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(TrtLaneError, match="comes with the system"):
        compat.load_builder(load_target("local").recipe)
