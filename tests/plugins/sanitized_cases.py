"""Runs every case through the two libraries named on the command line, for a sanitizer to watch."""

from __future__ import annotations

import sys

from cases import all_cases
from running import by_kernels, difference, on_host

from trt_lane.plugin_library import PluginLibrary


def main() -> None:
    """Host first, then kernels; float32 and float16."""
    host, kernels = map(PluginLibrary, sys.argv[1:])
    for case in all_cases():
        for given in (case, case.in_half()):
            for outputs in (on_host(host, [given]), by_kernels(kernels, [given], seed=5)):
                assert difference(given, outputs) == "", f"{case.id}: {difference(given, outputs)}"
    print(f"{len(all_cases())} cases")


if __name__ == "__main__":
    main()
