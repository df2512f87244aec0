"""The compiled decoders against numpy, on every named case."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from cases import REQUIRED, Case, all_cases, decoder_names, shared_cases
from running import by_kernels, compiled, difference, on_host, same

CASES = all_cases()
BATCHES = [list(group) for _, group in groupby(CASES, key=lambda c: (c.decoder, str(c.more)))]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
each_decoder = pytest.mark.parametrize("name", decoder_names())


@each_decoder
def test_every_decoder_has_the_named_cases(name):
    assert {case.name for case in CASES if case.plugin == name} >= REQUIRED


@each_decoder
def test_cases_have_lanes_where_their_name_says_so(name):
    lanes = {case.name: len(case.expected()) for case in CASES if case.plugin == name}
    assert lanes["empty"] == 0
    assert lanes["one"] == 1
    assert lanes["typical"] > 1
    assert lanes["every_slot_full"] > 1


@each_case
def test_host_gives_the_lanes_of_numpy(host, case):
    assert difference(case, on_host(host, [case])) == ""


@each_case
def test_host_gives_the_lanes_of_numpy_from_half_precision(host, case):
    case = case.in_half()
    assert difference(case, on_host(host, [case])) == ""


@each_case
def test_kernels_give_the_lanes_of_numpy_in_any_order_of_threads(executed, case):
    outputs = by_kernels(executed, [case], seed=1)
    assert difference(case, outputs) == ""
    assert same(outputs, by_kernels(executed, [case], seed=2))


@each_case
def test_kernels_give_the_lanes_of_numpy_from_half_precision(executed, case):
    case = case.in_half()
    assert difference(case, by_kernels(executed, [case], seed=3)) == ""


@pytest.mark.parametrize("batch", BATCHES, ids=lambda b: f"{b[0].plugin}-{len(b)}")
def test_frames_of_a_batch_do_not_touch_each_other(host, executed, batch):
    for outputs in (on_host(host, batch), by_kernels(executed, batch)):
        assert [difference(case, outputs, i) for i, case in enumerate(batch)] == [""] * len(batch)


@each_decoder
def test_official_heads_give_the_lanes_of_numpy(host, executed, shared, name):
    cases = shared_cases(shared, name)
    if not cases:
        pytest.skip(f"../shared has no heads for {name}")
    for case in cases:
        assert difference(case, on_host(host, [case])) == ""
    for case in cases[:4]:
        assert difference(case, by_kernels(executed, [case])) == ""


@each_decoder
def test_compiled_decoder_is_called_like_numpy(host, name):
    case = next(c for c in CASES if c.plugin == name and c.name == "typical")
    decoder = compiled(host, case)
    lanes, expected = decoder(**case.heads), case.expected()
    assert lanes.frame_hw == expected.frame_hw
    assert [len(lane) for lane in lanes.lanes()] == [len(lane) for lane in expected.lanes()]
    shorter = {k: v[..., :-1] for k, v in case.heads.items()}
    with pytest.raises(ValueError, match="has shape"):
        decoder(**shorter)
    with pytest.raises(ValueError, match="expected"):
        decoder(nothing=np.zeros(1, np.float32))


def test_a_difference_is_told(host):
    case = next(c for c in CASES if c.name == "typical")
    outputs = on_host(host, [case])
    assert "count is" in difference(Case(**{**case.__dict__, "overflow": 4}), outputs)
    outputs.points[0, 0, 0, 0] += 0.01
    assert "px apart" in difference(case, outputs)
    outputs.points[0, 0, 0, 0] = np.nan
    assert "point [0 0 0]" in difference(case, outputs)
