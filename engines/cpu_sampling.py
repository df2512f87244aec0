"""SamplingWriter: GridSample and Gather in forms that ONNX Runtime is quick at on a CPU.

ONNX Runtime 1.32 has a quick GridSample for bilinear samples counted from the cells' edges, and
takes ten times as long for those counted from their centres. Its Gather along the last axis copies
number by number, along any other one row by row.
"""

from __future__ import annotations

import numpy as np
import onnx

from engines.cpu_kernels import KernelWriter
from engines.graph_index import GraphIndex, attributes, node_name

_FEWEST_ROWS = 8  # of fewer the copies are too short to pay for the transpositions


class SamplingWriter:
    """Writes one float node that reads places of a map."""

    def __init__(self, index: GraphIndex, writer: KernelWriter) -> None:
        self.index = index
        self.writer = writer

    def result(self, node: onnx.NodeProto, inputs: list[str]) -> str | None:
        """The node's float result, of the same values; None where the node itself does as well.

        Args:
            node: of the Q/DQ graph.
            inputs: names of its inputs' float forms.
        """
        if node.op_type == "GridSample" and self._counts_from_centres(node):
            return self._grid_sample(node, *inputs)
        if node.op_type == "Gather" and self._reads_columns(node):
            return self._gather_columns(node, *inputs)
        return None

    def _counts_from_centres(self, node: onnx.NodeProto) -> bool:
        # Of this kind only is a quick form known; reflections would be about another line.
        numbers = attributes(node)
        return (
            len(self.index.shapes.get(node.input[0], ())) == 4
            and numbers.get("align_corners", 0) == 1
            and numbers.get("mode", "linear") in ("linear", "bilinear")
            and numbers.get("padding_mode", "zeros") == "zeros"
        )

    def _grid_sample(self, node: onnx.NodeProto, x: str, grid: str) -> str:
        """The same cells from -1 and 1 at the map's edges instead of its outermost centres.

        Cell i of n is at 2 i / (n - 1) - 1 with align_corners and at (2 i + 1) / n - 1 without
        (ONNX, GridSample); the second is the first times (n - 1) / n.
        """
        height, width = self.index.shape(node.input[0])[2:]
        size = np.float32([width, height])
        tensor, name = node.output[0], node_name(node)
        shrink = self.writer.constant(f"{tensor}_shrink", (size - 1) / size)
        from_edges = self.writer.node("Mul", [grid, shrink], f"{tensor}_grid", name)
        numbers = {**attributes(node), "align_corners": 0}
        return self.writer.node("GridSample", [x, from_edges], tensor, name, **numbers)

    def _reads_columns(self, node: onnx.NodeProto) -> bool:
        shape = self.index.shapes.get(node.input[0], ())
        return (
            len(shape) == 3
            and attributes(node).get("axis", 0) in (2, -1)
            and shape[1] >= _FEWEST_ROWS
            and len(self.index.shapes.get(node.input[1], ())) == 1
        )

    def _gather_columns(self, node: onnx.NodeProto, x: str, places: str) -> str:
        """Columns of (N, C, L) as rows of (N, L, C)."""
        tensor, name = node.output[0], node_name(node)
        rows = self.writer.node("Transpose", [x], f"{tensor}_rows", name, perm=[0, 2, 1])
        read = self.writer.node("Gather", [rows, places], f"{tensor}_read", name, axis=1)
        return self.writer.node("Transpose", [read], tensor, name, perm=[0, 2, 1])
