"""`python -m benchmarks.peers MODEL --peer NAME …`: one cell of the table by another's quantiser.

A process of its own, so that peak memory and crashes are the cell's own.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.peers import PEERS, get_peer
from trt_lane.console import guarded
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.files import write_json
from trt_lane.fit import Fit, fit_frame
from trt_lane.frame_results import FLOAT, frame_results, spread_indices
from trt_lane.image import ImageSpec

SCHEMA = 1
QUANTISED = "quantised"


def main(arguments: list[str] | None = None) -> int:
    """Quantise, score, write."""
    options = _parser().parse_args(arguments)
    peer = get_peer(options.peer)
    if (reason := peer.missing()) is not None:
        raise TrtLaneError(f"peer {peer.name}: {reason}")
    import torch

    from trt_lane.model import get_model
    from trt_lane.models._checkpoint import load_weights

    model = get_model(options.model)
    float_network, network = model.build(), model.build()
    load_weights(model, float_network, options.weights)
    network.load_state_dict(float_network.state_dict())
    if model.companions is not None:
        load_weights(model, network, options.weights)
    dataset = open_dataset(options.score)
    frames = _inputs(options.data, model.image, options.frames)
    start = time.monotonic()
    quantised, facts = import_module(f"benchmarks.peers.{peer.tool}_peer").quantise(
        model, network, frames, peer.method
    )
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def as_float(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            heads = float_network(torch.from_numpy(image))
        return {name: head.numpy() for name, head in heads.items()}

    results = frame_results(
        {FLOAT: as_float, QUANTISED: quantised},
        model.image,
        model.decoder,
        dataset,
        spread_indices(len(dataset), options.score_frames),
    )
    record = {
        "schema": SCHEMA,
        "method": f"peer: {peer.name}",
        "bits": [8, 8],
        "simulated": False,
        "seed": 0,
        "calibration_frames": len(frames),
        "learning": None,
        "seconds": round(seconds, 2),
        "resumed": False,
        "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
        "threads": torch.get_num_threads(),
        "results": results,
        "warnings": [],
        "facts": facts,
    }
    write_json(options.score_out, record)
    return 0


def _inputs(spec: str, image: ImageSpec, wanted: int) -> np.ndarray:
    """Network inputs float32 (F, 3, h, w): the same frames as our own calibration takes."""
    dataset = open_dataset(spec)
    indices = spread_indices(len(dataset), wanted)
    fitted = (fit_frame(dataset.frame(i), image, Fit.CROP).frame for i in indices)
    return np.stack([image.to_tensor(frame) for frame in fitted])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("model", help="a name from `trt-lane models`")
    parser.add_argument("--peer", required=True, help=", ".join(PEERS))
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint")
    parser.add_argument("--data", required=True, help="data set to calibrate on")
    parser.add_argument("--frames", type=int, required=True, help="number of calibration frames")
    parser.add_argument("--score", required=True, help="data set to score on")
    parser.add_argument("--score-frames", type=int, required=True, help="at most so many")
    parser.add_argument("--score-out", type=Path, required=True, help="results (.json)")
    return parser


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.peers", main))
