"""StepChooser: with which step a computed tensor becomes 8 bits on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from engines.cpu_demand import Demand, clip_bounds
from engines.cpu_units import is_pair, waits_for_reader
from engines.graph_index import DQ_OP, Q_OP, GraphIndex

_EVERYTHING = (-np.inf, np.inf)


class StepChooser:
    """Takes the quantiser's own step where one reads the tensor, else the finest that is safe."""

    def __init__(
        self, index: GraphIndex, demands: Mapping[str, Demand], maxima: Mapping[str, float]
    ) -> None:
        self.index = index
        self.demands = demands
        self.maxima = maxima

    def choose(self, tensor: str) -> tuple[float | None, int, bool]:
        """(step, zero point, whether the Q/DQ graph has no such step); step None: none is known."""
        wanted = self.demands[tensor]
        if len(wanted.steps) == 1:
            return next(iter(wanted.steps)), wanted.zero, False
        largest = self.maxima.get(tensor, np.inf)
        low, high = (0.0 if wanted.never_negative else -largest), largest
        if not wanted.steps and self.index.sole_reader(tensor):
            least, most = self._range_that_matters(tensor, self.index.consumers[tensor][0])
            low, high = max(low, least), min(high, most)
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            return None, 0, False
        step = float(np.float32((high - low) / 255))
        return step, int(np.clip(round(-low / step), 0, 255)), True

    def _range_that_matters(self, tensor: str, adder: onnx.NodeProto) -> tuple[float, float]:
        """Outside of it, the quantiser behind an addition clips the sum whatever the other adds."""
        if adder.op_type != "Add":
            return _EVERYTHING
        total = adder.output[0]
        bottom = -np.inf
        if waits_for_reader(adder, self.index):
            activation = self.index.consumers[total][0]
            total = activation.output[0]
            bottom = clip_bounds(activation, self.index)[0]
        wanted, readers = self.demands[total], self.index.consumers.get(total, ())
        if wanted.exact or len(wanted.steps) != 1 or any(r.op_type != Q_OP for r in readers):
            return _EVERYTHING
        other = self._quantised_range(next((i for i in adder.input if i != tensor), ""))
        if other is None or np.isnan(bottom):
            return _EVERYTHING
        out = next(iter(wanted.steps))
        return max(bottom, -128.5 * out) - other[1], 127.5 * out - other[0]

    def _quantised_range(self, tensor: str) -> tuple[float, float] | None:
        """What a dequantised tensor can hold."""
        if self.index.op(tensor) != DQ_OP or not is_pair(self.index.producer[tensor], self.index):
            return None
        quantiser = self.index.producer[self.index.producer[tensor].input[0]]
        step = self.index.activation_scale(quantiser)
        positive = self.demands[quantiser.input[0]].never_negative
        return (0.0 if positive else -128 * step), 127 * step
