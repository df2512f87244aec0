"""Runs a case through a library, and says how its lanes differ from numpy's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np
from cases import Case

from trt_lane.decoders import decoder_to_dict
from trt_lane.plugin_library import (
    LANES_DROPPED,
    UNSOUND,
    CompiledDecoder,
    LaneOutputs,
    PluginLibrary,
)

# Kernels that read what nobody wrote, or leave outputs unwritten, find this.
GARBAGE = 0xCB


def compiled(library: PluginLibrary, case: Case) -> CompiledDecoder:
    """The library's decoder for a case."""
    return library.make(decoder_to_dict(case.decoder), case.head_shapes(), **case.more)


def stacked(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """Heads of several cases of one decoder as a batch."""
    return {name: np.stack([c.heads[name] for c in cases]) for name in cases[0].heads}


def on_host(library: PluginLibrary, cases: Sequence[Case]) -> LaneOutputs:
    """Outputs of the host's decoder for a batch of cases of one decoder."""
    return compiled(library, cases[0]).decode(stacked(cases))


def by_kernels(library: PluginLibrary, cases: Sequence[Case], seed: int = 1) -> LaneOutputs:
    """Outputs of the kernels, run on the CPU, threads in the order of a seed."""
    decoder = compiled(library, cases[0])
    arrays, batch, half = decoder.checked(stacked(cases))
    outputs = LaneOutputs.empty(batch, decoder.slots, decoder.points)
    for array in (outputs.points, outputs.scores, outputs.count):
        array.view(np.uint8)[...] = GARBAGE
    workspace = _aligned(decoder.workspace_bytes(batch))
    seed_of(library)(seed)
    decoder.launch(
        [a.ctypes.data for a in arrays],
        half,
        batch,
        (outputs.points.ctypes.data, outputs.scores.ctypes.data, outputs.count.ctypes.data),
        workspace.ctypes.data,
        0,
    )
    return outputs


def seed_of(library: PluginLibrary) -> Callable[[int], None]:
    """What draws the order of threads anew in a library whose kernels run on the CPU."""
    return ctypes.CDLL(str(library.path)).lane_execution_seed


def difference(case: Case, outputs: LaneOutputs, frame: int = 0) -> str:
    """What distinguishes the outputs from numpy's lanes; empty when nothing does."""
    expected = case.expected()
    slots, width = outputs.points.shape[1:3]
    lanes, overflow = outputs.count[frame].tolist()
    kept = min(len(expected), slots)
    sound = all(np.isfinite(head).all() for head in case.heads.values())
    bits = case.overflow | (0 if sound else UNSOUND)
    if (lanes, overflow) != (kept, bits):
        return f"count is {lanes}, overflow {overflow}; expected {kept}, {bits}"
    if (len(expected) > slots) != bool(overflow & LANES_DROPPED):
        return f"numpy has {len(expected)} lanes for {slots} slots, overflow is {overflow}"
    points = np.full((slots, width, 2), np.nan, np.float32)
    length = min(width, expected.points.shape[1])
    points[:kept, :length] = expected.points[:kept, :length]
    scores = np.zeros(slots, np.float32)
    scores[:kept] = expected.scores[:kept]
    found = outputs.points[frame]
    if not np.array_equal(np.isnan(found), np.isnan(points)):
        at = np.argwhere(np.isnan(found) != np.isnan(points))[0]
        return f"point {at} is {found[tuple(at)]}, expected {points[tuple(at)]}"
    apart = np.nanmax(np.abs(found - points), initial=0) if np.isfinite(points).any() else 0
    tolerance = case.tolerance_px or 2e-7 * max(case.decoder.frame_hw)
    if not apart <= tolerance:
        return f"points are {apart} px apart, at most {tolerance} are accepted"
    apart = np.abs(outputs.scores[frame] - scores).max()
    if not apart <= case.score_tolerance:
        return f"scores are {apart} apart, at most {case.score_tolerance} is accepted"
    return ""


def same(a: LaneOutputs, b: LaneOutputs) -> bool:
    """Whether all bits of two outputs are the same."""
    return all(
        getattr(a, k).tobytes() == getattr(b, k).tobytes() for k in ("points", "scores", "count")
    )


def _aligned(size: int) -> np.ndarray:
    """Garbage bytes that start at a multiple of 256, as device memory does."""
    memory = np.full(size + 256, GARBAGE, np.uint8)
    start = -memory.ctypes.data % 256
    return memory[start : start + size]
