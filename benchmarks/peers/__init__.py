"""Other people's quantisers on our float models: through our decoder and scorer, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from trt_lane.errors import TrtLaneError


@dataclass(frozen=True)
class Peer:
    """A quantiser of another project with one way of finding ranges.

    Attributes:
        name: "<tool> <method>".
        needs: modules that must be installed.
    """

    name: str
    needs: tuple[str, ...]

    @property
    def tool(self) -> str:
        """The first word of the name; `benchmarks/peers/<tool>_peer.py` runs it."""
        return self.name.partition(" ")[0]

    @property
    def method(self) -> str:
        """The second word of the name."""
        return self.name.partition(" ")[2]

    def missing(self) -> str | None:
        """Why it cannot run here, in one line; None when it can."""
        absent = [name for name in self.needs if find_spec(name) is None]
        if not absent:
            return None
        return f"{', '.join(absent)} not installed; run: pip install --editable '.[workshop,peers]'"


# ModelOpt imports requests and huggingface_hub without declaring them.
_MODELOPT = ("modelopt", "requests", "huggingface_hub")
_ONNXRUNTIME = ("onnxruntime", "onnx")
_ALL = (
    *(Peer(f"modelopt {m}", _MODELOPT) for m in ("max", "percentile", "entropy", "mse")),
    *(Peer(f"onnxruntime {m}", _ONNXRUNTIME) for m in ("minmax", "percentile", "entropy")),
)
PEERS = {peer.name: peer for peer in _ALL}


def get_peer(name: str) -> Peer:
    """The peer of that name; a wrong one is a TrtLaneError."""
    if name not in PEERS:
        raise TrtLaneError(f"no peer {name!r}; known peers: {', '.join(PEERS)}")
    return PEERS[name]
