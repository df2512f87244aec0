"""One file per family of lane detectors; each ends in `MODELS = (LaneModel(...), ...)`."""
