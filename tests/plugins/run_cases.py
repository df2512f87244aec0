"""Runs every case through the two libraries that the command line names, for others to watch."""

from __future__ import annotations

import sys

import numpy as np
from cases import all_cases
from running import by_kernels, difference, on_host
from test_preprocess import (
    FORMATS,
    SPECS,
    test_half_and_int8_inputs_are_rounded_as_numpy_does,
    test_host_gives_the_numbers_of_the_spec,
    test_kernels_give_the_numbers_of_the_spec,
    test_rows_may_be_padded,
)

from trt_lane.plugin_library import PluginLibrary


def main() -> None:
    """Host first, then kernels; float32 and float16."""
    host, kernels = map(PluginLibrary, sys.argv[1:])
    for case in all_cases():
        for given in (case, case.in_half()):
            for outputs in (on_host(host, [given]), by_kernels(kernels, [given], seed=5)):
                assert difference(given, outputs) == "", f"{case.id}: {difference(given, outputs)}"
    for pixels in FORMATS:
        for spec in SPECS.values():
            test_host_gives_the_numbers_of_the_spec(host, spec, pixels)
            test_kernels_give_the_numbers_of_the_spec(kernels, spec, pixels)
        test_rows_may_be_padded(host, kernels, pixels)
    for dtype in (np.float16, np.int8):
        test_half_and_int8_inputs_are_rounded_as_numpy_does(host, kernels, "shrunk", dtype)
    print(f"{len(all_cases())} cases")


if __name__ == "__main__":
    main()
