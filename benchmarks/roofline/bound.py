"""Lower bounds on a network's time on a device, and what they say about INT8.

A layer takes at least as long as its multiplications at the peak rate and as its bytes at the peak
bandwidth, whichever is longer (Williams, Waterman, Patterson: Roofline, 2009). Layers run one after
the other. Everything else (activations, pooling, launches, decoding) is taken to cost nothing, so
the sum is a bound and no estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.roofline.device import Device
from benchmarks.roofline.work import LayerWork

# TensorRT packs INT8 tensors in 32 channels and FP16 ones in 8 or 16 for tensor cores; what is
# missing to a full pack is multiplied all the same ("Data Format Descriptions" in its guide).
INT8_PACK, FP16_PACK = 32, 8
# INT8 that could gain less than this is not worth its loss of accuracy.
WORTH = 1.1


@dataclass(frozen=True)
class LayerBound:
    """The least time of one layer on a device.

    Attributes:
        work: the layer.
        fp16_ms: with everything in FP16.
        int8_ms: with INT8 where the graph has it.
        limit: what bounds the INT8 time: "compute" or "memory".
        gain: fp16_ms / int8_ms, at most.
        reason: why INT8 cannot help here, "" where it may.
    """

    work: LayerWork
    fp16_ms: float
    int8_ms: float
    limit: str
    gain: float
    reason: str


@dataclass(frozen=True)
class Bounds:
    """All layers on one device."""

    device: Device
    layers: tuple[LayerBound, ...]

    @property
    def fp16_ms(self) -> float:
        """The least time of the network in FP16."""
        return sum(layer.fp16_ms for layer in self.layers)

    @property
    def int8_ms(self) -> float:
        """The least time with INT8."""
        return sum(layer.int8_ms for layer in self.layers)

    @property
    def cached_ms(self) -> float:
        """The least time with INT8 where the last cache keeps whatever fits, from frame to frame.

        All weights, if they and the largest layer's activations fit together; else a layer's
        activations, if they fit by themselves.
        """
        cache = self.device.l2_mb * 2**20
        layers = [layer.work for layer in self.layers]
        weights = sum(_weight_bytes(work) for work in layers)
        keeps_all = weights + max(map(_activation_bytes, layers), default=0) <= cache
        whole = 0.0
        for layer in self.layers:
            moved = 0 if keeps_all else _weight_bytes(layer.work)
            activations = _activation_bytes(layer.work)
            moved += activations if activations > cache else 0
            whole += max(_compute_ms(layer.work, self.device), _memory_ms(moved, self.device))
        return whole

    def reached(self, network_ms: float) -> float:
        """Share of the limit that a measured time is; above 1 only where a cache helped."""
        return self.int8_ms / network_ms

    def to_dict(self) -> dict:
        """Plain values."""
        return {
            "device": self.device.name,
            "fp16_ms": self.fp16_ms,
            "int8_ms": self.int8_ms,
            "cached_ms": self.cached_ms,
            "layers": [
                {
                    "node": b.work.node,
                    "op": b.work.op,
                    "macs": b.work.macs,
                    "bytes_fp16": bytes_moved(b.work, int8=False),
                    "bytes_int8": bytes_moved(b.work, int8=True),
                    "fp16_ms": b.fp16_ms,
                    "int8_ms": b.int8_ms,
                    "limit": b.limit,
                    "gain": b.gain,
                    "reason": b.reason,
                }
                for b in self.layers
            ],
        }


def bounds(work: Sequence[LayerWork], device: Device) -> Bounds:
    """Bounds of every layer."""
    return Bounds(device, tuple(_bound(layer, device) for layer in work))


def bytes_moved(layer: LayerWork, int8: bool) -> int:
    """Bytes between memory and processor when every tensor goes there once."""
    if int8:
        return _weight_bytes(layer) + _activation_bytes(layer)
    return 2 * (layer.weights + layer.read + layer.written)


def _weight_bytes(layer: LayerWork) -> int:
    return (1 if layer.int8 else 2) * layer.weights


def _activation_bytes(layer: LayerWork) -> int:
    read, written = (1 if layer.int8 else 2), (1 if layer.int8_result else 2)
    return read * layer.read + written * layer.written


def _compute_ms(layer: LayerWork, device: Device) -> float:
    return 2e-9 * layer.macs / (device.int8_tops if layer.int8 else device.fp16_tflops)


def _memory_ms(moved: int, device: Device) -> float:
    return 1e-6 * moved / device.bandwidth_gb_s


def _bound(layer: LayerWork, device: Device) -> LayerBound:
    fp16_compute = 2e-9 * layer.macs / device.fp16_tflops
    int8_compute = _compute_ms(layer, device)
    fp16_memory, int8_memory = (
        _memory_ms(bytes_moved(layer, int8), device) for int8 in (False, True)
    )
    fp16, int8 = max(fp16_compute, fp16_memory), max(int8_compute, int8_memory)
    limit = "memory" if int8_memory > int8_compute else "compute"
    gain = fp16 / int8 if int8 else 1.0
    return LayerBound(layer, fp16, int8, limit, gain, _reason(layer, gain, limit))


def _reason(layer: LayerWork, gain: float, limit: str) -> str:
    if not layer.int8:
        kind = "no Q/DQ in the graph" if layer.weights else "a product of two activations"
        return f"stays in FP16: {kind}"
    if limit == "memory" and gain < WORTH:
        return "memory-bound: its result is read in FP16, so INT8 moves hardly fewer bytes"
    # INT8 doubles the rate; filling its packs must not cost as much as that.
    waste = _padding(layer, INT8_PACK) / _padding(layer, FP16_PACK)
    if waste >= 2 / WORTH:
        few = min(layer.channels_in, layer.channels_out)
        return (
            f"too few channels: {few} of a pack of {INT8_PACK}, so INT8 multiplies "
            f"{waste:.1f} times as much as FP16"
        )
    return ""


def _padding(layer: LayerWork, pack: int) -> float:
    """How much more is multiplied when both channel counts are filled up to whole packs."""
    more = 1.0
    for channels in (layer.channels_in, layer.channels_out):
        more *= -(-channels // pack) * pack / max(channels, 1)
    return more
