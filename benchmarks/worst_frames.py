"""Pictures of the frames where an engine bends lanes most, small enough to travel in a report."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from benchmarks.accuracy import Judged
from trt_lane.datasets.base import Dataset
from trt_lane.lanes import LaneSet
from trt_lane.picture import FLOAT_BGR, INT8_BGR

WIDTH_PX = 640
QUALITY = 70
COUNT = 6


def worst_frames(judged: Judged, dataset: Dataset, count: int = COUNT) -> list[dict[str, str]]:
    """Name, caption and JPEG (base64) of the worst frames, worst first.

    With a float graph those with the largest Lane Distortion Score; else those that miss or invent
    most lanes; without labels either, the first ones.
    """
    engine = judged.accuracy.forms["engine"]
    found = []
    for place in _order(judged)[:count]:
        name = judged.accuracy.frames[place]
        caption = name
        if engine.distortion_px is not None:
            caption += f", LDS {engine.distortion_px[place]:.1f} px"
        if engine.culane is not None:
            tp, fp, fn = engine.counts(0.5)[place]
            caption += f", {tp} found, {fp} made up, {fn} missed"
        frame = dataset.frame(judged.indices[place])
        floats = judged.lanes["float"][place] if "float" in judged.lanes else None
        jpeg = _draw(frame, floats, judged.lanes["engine"][place])
        found.append({"name": name, "caption": caption, "jpeg": jpeg})
    return found


def _order(judged: Judged) -> list[int]:
    engine = judged.accuracy.forms["engine"]
    if engine.distortion_px is not None:
        badness = engine.distortion_px
    elif engine.culane is not None:
        badness = engine.counts(0.5)[:, 1:].sum(axis=1)
    elif engine.tusimple is not None:
        badness = -engine.tusimple[:, 0]
    else:
        badness = np.zeros(len(judged.indices))
    return [int(i) for i in np.argsort(-np.asarray(badness, float), kind="stable")]


def _draw(frame: np.ndarray, floats: LaneSet | None, engine: LaneSet) -> str:
    height = round(WIDTH_PX * frame.shape[0] / frame.shape[1])
    small = cv2.resize(frame, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    if floats is not None:
        small = floats.draw(small, FLOAT_BGR, thickness=6)
    small = engine.draw(small, INT8_BGR, thickness=2)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode()
