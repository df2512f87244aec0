"""A network's first layers from another that is already trained: its roads are the same roads."""

from __future__ import annotations

from torch import Tensor

from trt_lane.errors import TrtLaneError


def with_trunk(state: dict[str, Tensor], trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with its leading tensors taken from `trained`, as far as all shapes agree.

    Names do not count: each official code base has its own for the same ResNet.

    Args:
        state: state dict of the network to begin, in the network's order.
        trained: state dict of a network whose trunk comes first, too.

    Raises:
        TrtLaneError: not even the first tensors agree.
    """
    started = dict(state)
    count = 0
    for (name, own), other in zip(state.items(), trained.values(), strict=False):
        if own.shape != other.shape:
            break
        started[name] = other.to(own.dtype)
        count += 1
    if count == 0:
        raise TrtLaneError(
            f"no layer of the trained trunk fits: this network begins with "
            f"{_first(state)}, the trained one with {_first(trained)}"
        )
    return started


def _first(state: dict[str, Tensor]) -> str:
    return next((f"{name} {tuple(value.shape)}" for name, value in state.items()), "nothing")
