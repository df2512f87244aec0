"""Results of cells with chosen numbers."""

from __future__ import annotations

from typing import Any


def made_cell(
    quantised: list[list[float]],
    floats: list[list[float]],
    metric: str | None = "tusimple",
    **changed: Any,
) -> dict[str, Any]:
    """A cell as calibrators.score writes it."""
    count = len(quantised)

    def form(labelled: list[list[float]], agreement: list[int], distortion: float) -> dict:
        return {
            "labelled": labelled if metric else [],
            "agreement": [agreement] * count,
            "distortion_px": [distortion] * count,
        }

    cell = {
        "schema": 1,
        "method": "int8_x",
        "bits": [8, 8],
        "simulated": False,
        "seed": 0,
        "calibration_frames": 5,
        "learning": None,
        "seconds": 2.0,
        "resumed": False,
        "peak_memory_bytes": 300_000_000,
        "threads": 1,
        "results": {
            "metric": metric,
            "frames": count,
            "forms": {
                "float": form(floats, [2, 0, 0], 0.0),
                "quantised": form(quantised, [1, 1, 1], 1.5),
            },
        },
        "warnings": [],
        "old_code": False,
    }
    return cell | changed
