"""TuSimple's score of a prediction file against a label file."""

from __future__ import annotations

from pathlib import Path

from trt_lane.datasets.tusimple_json import TusimpleRecord, read_records
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.tusimple import TusimpleScore, mean, score_image


def score_files(pred_file: Path, label_file: Path) -> TusimpleScore:
    """Score a file of predictions; every labelled image needs exactly one.

    Raises:
        TrtLaneError: damaged files, predictions missing or too many, or lanes whose length is not
            the number of the label's rows. As the official program refuses.
    """
    labels = {record.raw_file: record for record in read_records(label_file)}
    preds = {record.raw_file: record for record in read_records(pred_file)}
    for raw_file, label in labels.items():
        if label.h_samples is None or label.lanes is None:
            raise TrtLaneError(f"{label.place}: no h_samples or lanes; expected a label file")
        if raw_file not in preds:
            missing = len(labels.keys() - preds.keys())
            raise TrtLaneError(
                f"{pred_file} lacks {missing} of {len(labels)} labelled images, first {raw_file}"
            )
    return mean([_score(pred, labels.get(pred.raw_file), label_file) for pred in preds.values()])


def _score(pred: TusimpleRecord, label: TusimpleRecord | None, label_file: Path) -> TusimpleScore:
    if label is None:
        raise TrtLaneError(f"{pred.place}: {pred.raw_file} is not in {label_file}; remove it")
    if pred.lanes is None or pred.run_time_ms is None:
        lacking = "lanes" if pred.lanes is None else "run_time (milliseconds)"
        raise TrtLaneError(f"{pred.place}: no {lacking}; expected raw_file, lanes and run_time")
    rows = len(label.h_samples)
    if len(pred.lanes) and pred.lanes.shape[1] != rows:
        raise TrtLaneError(
            f"{pred.place}: lanes have {pred.lanes.shape[1]} values; expected {rows}, "
            f"as many as h_samples in {label.place}"
        )
    return score_image(pred.lanes, label.lanes, label.h_samples, pred.run_time_ms)
