"""TuSimple's layout: label files of JSON lines beside the folder clips/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_lane.datasets.base import Label, checked_name, files_digest, frames_digest
from trt_lane.datasets.named_images import NamedImages
from trt_lane.datasets.tusimple_json import TusimpleRecord, read_records
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

KIND = "tusimple"
ARGUMENT = "DIR with label files (*.json) and clips/, or one label file"


class TusimpleDataset(NamedImages):
    """The frames that label files name, in their order.

    Lanes are annotated at the rows `h_samples`; in the LaneSet a point that TuSimple writes as -2
    is NaN. Records without `lanes` (test tasks) are unlabelled.
    """

    def __init__(self, root: Path, label_files: list[Path], spec: str) -> None:
        self.label_files = label_files
        self.records: list[TusimpleRecord] = []
        place_of: dict[str, str] = {}
        for record in (r for file in label_files for r in read_records(file)):
            name = checked_name(record.raw_file, record.place)
            if name in place_of:
                raise TrtLaneError(
                    f"{record.place}: {name} is in {place_of[name]} too; "
                    f"choose one label file: {KIND}:FILE"
                )
            if record.h_samples is None:
                raise TrtLaneError(f"{record.place}: no h_samples; expected a TuSimple label file")
            place_of[name] = record.place
            self.records.append(record)
        super().__init__("TuSimple", spec, root, list(place_of))
        labelled = any(record.lanes is not None for record in self.records)
        self.metric = Metric.TUSIMPLE if labelled else None

    def label(self, index: int) -> Label:
        """Lanes with one point per h_sample; decodes the image once if its size is not known."""
        record, name = self.records[index], self.image_names[index]
        rows = tuple(float(y) for y in record.h_samples)
        if record.lanes is None:
            return Label(name, h_samples=rows)
        # LaneSet runs from the bottom of the frame upwards.
        order = np.argsort(-record.h_samples, kind="stable")
        xs = record.lanes[:, order]
        ys = np.where(np.isnan(xs), np.nan, record.h_samples[order])
        points = np.stack([xs, ys], axis=2)
        lanes = LaneSet(points, np.ones(len(points)), self.frame_hw(index))
        return Label(name, lanes, h_samples=rows)

    def digest(self) -> str:
        """Over label files and images."""
        folder = self.label_files[0].parent
        labels = files_digest(folder, [file.name for file in self.label_files])
        return frames_digest(self.root, self.image_names, f"{KIND}\n{labels}")


def open(argument: str) -> TusimpleDataset:
    """Open DIR (all its *label*.json, else all its *.json) or one label file."""
    path = Path(argument).expanduser()
    spec = f"{KIND}:{path}"
    if path.is_file():
        return TusimpleDataset(path.parent, [path], spec)
    if not path.is_dir():
        raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
    files = label_files(path)
    if not files:
        raise TrtLaneError(f"{path} holds no *.json; expected {ARGUMENT}")
    return TusimpleDataset(path, files, spec)


def recognise(path: Path) -> int:
    """2 for a folder with clips/ and label files, or for such a label file; else 0."""
    if path.is_file():
        return 2 * (path.suffix == ".json" and (path.parent / "clips").is_dir())
    return 2 * ((path / "clips").is_dir() and bool(label_files(path)))


def label_files(folder: Path) -> list[Path]:
    """The label files of a TuSimple folder, sorted by name."""
    return sorted(folder.glob("*label*.json")) or sorted(folder.glob("*.json"))
