"""What a network that has learnt everything would answer: heads made of training targets."""

from __future__ import annotations

import numpy as np

from trt_lane.model import LaneModel

SURE = 10.0  # logit of a network that is sure


def perfect_heads(model: LaneModel, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Heads of one frame, float32; what no target says is what an untaught network answers: 0."""
    decoder = type(model.decoder).__module__.rpartition(".")[2]
    heads = {
        "line_anchor": _line_anchor,
        "keypoint_grouping": _keypoint_grouping,
        "bezier_curve": _bezier_curve,
        "segmentation": _segmentation,
    }[decoder](model, targets)
    return {name: np.asarray(head, np.float32) for name, head in heads.items()}


def _line_anchor(model: LaneModel, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    lines = dict(model.build().named_buffers())
    positive = targets["lane"] == 1
    extent = lines["extents"].numpy().copy()
    extent[:, -1] = targets["length"]
    return {
        "cls": np.stack([np.zeros(len(positive)), _sure(positive)], axis=1),
        "extent": extent,
        "xs": np.where(np.isnan(targets["xs"]), lines["xs"].numpy(), targets["xs"]),
    }


def _keypoint_grouping(model: LaneModel, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    heat = np.clip(targets["heat"], 1e-6, 1 - 1e-6)
    return {
        "kpts_hm_logits": np.log(heat / (1 - heat)),
        "pts_offset": np.nan_to_num(targets["to_root"]),
        "int_offset": np.nan_to_num(targets["within_cell"]),
    }


def _bezier_curve(model: LaneModel, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"logits": _sure(targets["label"] == 1), "curves": np.nan_to_num(targets["curves"])}


def _segmentation(model: LaneModel, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    classes = np.arange(len(targets["existence"]) + 1)[:, None, None]
    return {
        "out": SURE * (targets["classes"] == classes),
        "lane": _sure(targets["existence"] == 1),
    }


def _sure(yes: np.ndarray) -> np.ndarray:
    return np.where(yes, SURE, -SURE)
