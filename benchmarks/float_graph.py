"""Is this the float graph of that engine? Asked before minutes are spent on measuring."""

from __future__ import annotations

from pathlib import Path

from engines.card import read_card, read_onnx
from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError


def check_float_graph(path: Path, artifact: EngineArtifact) -> None:
    """Refuse a graph of another model, or without the engine's heads.

    Raises:
        TrtLaneError: no such file, damaged, or of another model.
    """
    again = f"run: make engine MODEL={artifact.model}"
    if not path.is_file():
        raise TrtLaneError(f"no float ONNX {path}; {again}")
    graph = read_onnx(path)
    card = read_card(graph)
    if card is not None and card.model != artifact.model:
        raise TrtLaneError(f"{path} is of {card.model}, the engine of {artifact.model}; {again}")
    missing = {head.name for head in artifact.heads} - {out.name for out in graph.graph.output}
    if missing:
        raise TrtLaneError(
            f"{path} has no output {', '.join(sorted(missing))}; expected the float graph of "
            f"{artifact.model}; {again}"
        )
