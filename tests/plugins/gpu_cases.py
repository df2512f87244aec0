"""Every case on a device against numpy, and how long each takes: what `make gpu-check` measures.

python tests/plugins/gpu_cases.py LIBRARY     all cases once, for compute-sanitizer to watch
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

import numpy as np
from cases import Case, all_cases
from devices import CudaDevice, DecoderRun, Device, PreprocessRun
from running import difference, on_host, same
from test_preprocess import FORMATS, SPECS, bytes_of, check, frame_of

from trt_lane.compiled_preprocess import CompiledPreprocess
from trt_lane.image import ImageSpec
from trt_lane.plugin_library import PluginLibrary

# Timed at the size that cameras have; the small ones above leave most of a GPU idle.
TIMED_SPECS = {
    "culane_linear": ImageSpec((590, 1640), (288, 800)),
    "culane_antialiased": ImageSpec((590, 1640), (288, 800), resampling="antialiased"),
    "720p_linear": ImageSpec((720, 1280), (360, 640)),
}


def check_decoder(device: Device, library: PluginLibrary, case: Case) -> dict:
    """A case on the device: how it differs from numpy, and whether its bits are the host's."""
    run = DecoderRun(device, library, [case])
    run.launch()
    outputs = run.outputs()
    return {
        "case": case.id,
        "half": case.heads[next(iter(case.heads))].dtype == np.float16,
        "difference": difference(case, outputs),
        "same_bits_as_host": same(outputs, on_host(library, [case])),
    }


def check_graph(device: Device, library: PluginLibrary, case: Case) -> dict:
    """A case replayed from a CUDA graph, twice."""
    run = DecoderRun(device, library, [case])
    replay = run.device.in_graph(run.launch)
    replay()
    replay()
    return {"case": case.id, "difference": difference(case, run.outputs())}


def check_preprocess(device: Device, library: PluginLibrary, name: str, pixels: str) -> dict:
    """A frame of one format on the device against ImageSpec."""
    spec = SPECS[name]
    data = bytes_of(pixels, spec.frame_hw)
    run = PreprocessRun(device, CompiledPreprocess(library, spec, pixels=pixels), [data])
    run.launch()
    try:
        check(spec, run.output()[0], frame_of(pixels, data, spec.frame_hw))
    except AssertionError as error:
        return {"case": f"preprocess-{name}-{pixels}", "difference": str(error) or "other pixels"}
    return {"case": f"preprocess-{name}-{pixels}", "difference": ""}


def all_checks(device: Device, library: PluginLibrary) -> Iterator[dict]:
    """Every case once in float32 and once in float16, every format, every plugin in a graph."""
    for case in all_cases():
        yield check_decoder(device, library, case)
        yield check_decoder(device, library, case.in_half())
    for name in SPECS:
        for pixels in FORMATS:
            yield check_preprocess(device, library, name, pixels)
    for case in all_cases():
        if case.name == "typical":
            yield {**check_graph(device, library, case), "case": f"graph-{case.id}"}


def all_times(device: Device, library: PluginLibrary) -> Iterator[dict]:
    """Microseconds of every case and bandwidth reached against the device's peak."""
    for case in all_cases():
        for given in (case, case.in_half()):
            name = f"{case.id}-{'half' if given is not case else 'float'}"
            yield _timed(device, name, DecoderRun(device, library, [given]))
    for name, spec in TIMED_SPECS.items():
        for pixels in FORMATS:
            frame = bytes_of(pixels, spec.frame_hw)
            preprocess = CompiledPreprocess(library, spec, pixels=pixels, dtype=np.float16)
            run = PreprocessRun(device, preprocess, [frame])
            yield _timed(device, f"preprocess-{name}-{pixels}", run)


def _timed(device: Device, name: str, run: DecoderRun | PreprocessRun) -> dict:
    times = device.microseconds(run.launch)
    typical = statistics.median(times)
    peak = device.facts()["peak_gb_per_s"]
    reached = run.bytes / typical / 1e3
    return {
        "case": name,
        "us": round(typical, 3),
        "us_slowest": round(max(times), 3),
        "bytes": run.bytes,
        "gb_per_s": round(reached, 3),
        "of_peak": None if peak is None else round(reached / peak, 4),
    }


def main() -> int:
    """All cases once; exit status 1 when one differs."""
    device = CudaDevice()
    wrong = [c for c in all_checks(device, PluginLibrary(sys.argv[1])) if c["difference"]]
    for found in wrong:
        print(f"{found['case']}: {found['difference']}")
    device.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
