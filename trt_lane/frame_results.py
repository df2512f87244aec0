"""Results of a float network and its quantised form frame by frame, as plain numbers for JSON.

Single frames are kept because intervals need them: they are drawn anew from frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trt_lane.datasets.base import Dataset
from trt_lane.evaluation import Network, lanes_of
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import agreement
from trt_lane.metrics.lane_distortion import lane_distortion_score
from trt_lane.metrics.report import score_labels
from trt_lane.model import Metric

FLOAT = "float"


def frame_results(
    networks: Mapping[str, Network],
    image: ImageSpec,
    decoder: Any,
    dataset: Dataset,
    indices: Iterable[int],
) -> dict[str, Any]:
    """Lanes of all networks on those frames against labels and against the float network.

    Args:
        networks: by name; one is called "float".
        image: the model's geometry.
        decoder: the model's.
        dataset: frames, and labels if it has them.
        indices: of its frames.

    Returns:
        {"metric": the data set's or None, "frames": number of frames, "forms": {name: {
        "labelled": per labelled frame [tp, fp, fn] of drawn lanes or [accuracy, fp, fn] (TuSimple),
        "agreement": per frame [tp, fp, fn] against the float lanes, "distortion_px": per frame}}}.
    """
    lanes, labels = lanes_of(networks, image, decoder, dataset, indices)
    forms = {}
    for name, found in lanes.items():
        forms[name] = {
            "labelled": _labelled(dataset.metric, labels, found),
            "agreement": [_agreement(a, b) for a, b in zip(found, lanes[FLOAT], strict=True)],
            "distortion_px": list(map(lane_distortion_score, lanes[FLOAT], found)),
        }
    metric = dataset.metric.value if dataset.metric else None
    return {"metric": metric, "frames": len(labels), "forms": forms}


def spread_indices(total: int, wanted: int) -> list[int]:
    """Indices of `wanted` frames spread evenly over `total`; all when there are fewer."""
    count = min(total, wanted)
    return [i * total // count for i in range(count)]


def _labelled(
    metric: Metric | None, labels: Sequence[Any], lanes: Sequence[LaneSet]
) -> list[list[float]]:
    if metric is None:
        return []
    images = score_labels(metric, labels, lanes).per_image
    if metric is Metric.TUSIMPLE:
        return [[s.accuracy, s.fp, s.fn] for s in images]
    return [[c.tp, c.fp, c.fn] for c in images]


def _agreement(lanes: LaneSet, float_lanes: LaneSet) -> list[int]:
    counts = agreement([lanes], [float_lanes])
    return [counts.tp, counts.fp, counts.fn]
