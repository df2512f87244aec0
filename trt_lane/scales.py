"""ScaleTable: what calibration hands to export. One .npz, no torch needed to read it."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.files import atomic_write

SCHEMA = 2  # 1 had no biases
# Below it FP16 keeps fewer than 5 bits of a step; a channel that small is dead.
SMALLEST_STEP = 2.0**-20
# What numpy, zipfile and zlib raise on a file that is damaged or something else altogether.
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, eq=False)
class Scale:
    """The quantisation step of one tensor: x_q = clip(round_half_even(x / value), qmin, qmax).

    Attributes:
        value: float32 () for the whole tensor, or (n,) along `axis`; positive and finite.
        axis: None for one step per tensor.
        bits: 8 runs in TensorRT; 2..7 are simulations.
    """

    value: np.ndarray
    axis: int | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        value = np.asarray(self.value, np.float32)
        object.__setattr__(self, "value", value)
        if value.ndim != (0 if self.axis is None else 1):
            raise ValueError(f"scale has shape {value.shape}; expected one axis per channel axis")
        if not (np.isfinite(value).all() and (value > 0).all()):
            raise ValueError(
                f"scales must be positive and finite, got {value.min()}..{value.max()}"
            )
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits is {self.bits}; expected 2..8")

    @property
    def qmin(self) -> int:
        """Smallest integer level."""
        return -(1 << (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Largest integer level."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True)
class Site:
    """A place for Q/DQ: on the way from `tensor` to those `users` (graph node names).

    Sites of one `key` share one scale: what a concat joins, what a max-pool or a view passes on.
    """

    tensor: str
    users: tuple[str, ...]
    key: str


@dataclass(frozen=True, eq=False)
class Equalisation:
    """Ranges moved between the layers of the float network before it is quantised.

    Channels that pass each other on carry one factor, so the network's function does not change.

    Attributes:
        outputs: float32 (channels,) by module path: what a layer's outputs are multiplied by.
        inputs: likewise, the factors that its inputs come with; its weights are divided by them.
    """

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group in (self.outputs, self.inputs):
            for path, factors in group.items():
                if factors.dtype != np.float32 or factors.ndim != 1:
                    raise ValueError(f"factors of {path} are {factors.dtype} {factors.shape}")
                # Others would change last bits, and the float network with them.
                if (
                    not (np.isfinite(factors) & (factors > 0)).all()
                    or (np.frexp(factors)[0] != 0.5).any()
                ):
                    raise ValueError(f"factors of {path} are not all powers of two")

    def __bool__(self) -> bool:
        return bool(self.outputs or self.inputs)


@dataclass(frozen=True, eq=False)
class ScaleTable:
    """Every scale of a quantised network, and where Q/DQ goes.

    Attributes:
        sites: where activations are quantised; what is not listed stays in float.
        activations: scale by Site.key.
        weights: by parameter name of the BN-folded network ("model.conv1.weight").
        rounded: int8 weights by the same names: the levels that the engine will hold.
        maxima: largest magnitude seen on every float tensor by its graph name: export keeps in
            FP32 what would overflow FP16.
        digests: sha256 of "model", "recipe", "weights", "data".
        info: plain facts for people (recipe name, number of frames, seconds).
        biases: float32 by parameter name ("model.conv1.bias"): biases that reconstruction learned;
            layers that are not named keep the checkpoint's. Only of quantised layers.
        equalised: how the float network was changed first; everything else here, and what stays in
            float, is of that network.
    """

    sites: tuple[Site, ...]
    activations: dict[str, Scale]
    weights: dict[str, Scale]
    rounded: dict[str, np.ndarray]
    maxima: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    info: dict = field(default_factory=dict)
    biases: dict[str, np.ndarray] = field(default_factory=dict)
    equalised: Equalisation = field(default_factory=Equalisation)

    def __post_init__(self) -> None:
        if self.weights.keys() != self.rounded.keys():
            odd = sorted(self.weights.keys() ^ self.rounded.keys())[:3]
            raise ValueError(f"weights without both a scale and rounded values: {odd}")
        for name, levels in self.rounded.items():
            scale = self.weights[name]
            fits = levels.dtype == np.int8 and scale.axis is not None
            if not fits or not -levels.ndim <= scale.axis < levels.ndim:
                raise ValueError(f"rounded {name} is {levels.dtype} {levels.shape}, {scale.axis=}")
            if levels.shape[scale.axis] != len(scale.value):
                raise ValueError(
                    f"{name} has {len(scale.value)} scales for {levels.shape[scale.axis]} channels"
                )
        for name, bias in self.biases.items():
            layer, _, kind = name.rpartition(".")
            levels = self.rounded.get(f"{layer}.weight")
            if kind != "bias" or levels is None or bias.dtype != np.float32 or bias.ndim != 1:
                raise ValueError(
                    f"bias {name} is {bias.dtype} {bias.shape}, not of a rounded layer"
                )
            if not np.isfinite(bias).all():
                raise ValueError(f"bias {name} holds NaN or infinity")
        keys = {site.key for site in self.sites}
        if keys != self.activations.keys():
            odd = sorted(keys ^ self.activations.keys())[:3]
            raise ValueError(f"quantisation sites and activation scales do not match: {odd}")

    def digest(self) -> str:
        """sha256 over every number that export uses; times and other `info` are left out."""
        sha = hashlib.sha256(json.dumps(self.digests, sort_keys=True).encode())
        sha.update(json.dumps([asdict(site) for site in self.sites]).encode())
        for group in (self.activations, self.weights):
            for key in sorted(group):
                scale = group[key]
                sha.update(f"{key}|{scale.axis}|{scale.bits}|".encode() + scale.value.tobytes())
        for key in sorted(self.rounded):
            levels = self.rounded[key]
            sha.update(f"{key}|{levels.shape}|".encode() + np.ascontiguousarray(levels).tobytes())
        for key in sorted(self.biases):
            sha.update(key.encode() + np.ascontiguousarray(self.biases[key]).tobytes())
        for kind in ("outputs", "inputs"):
            for path, factors in sorted(getattr(self.equalised, kind).items()):
                sha.update(f"{kind}|{path}|".encode() + np.ascontiguousarray(factors).tobytes())
        maxima = {k: float(v) for k, v in self.maxima.items()}
        sha.update(json.dumps(maxima, sort_keys=True).encode())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write atomically."""
        arrays: dict[str, np.ndarray] = {}
        meta: dict = {"schema": SCHEMA, "digests": self.digests, "info": self.info}
        meta["sites"] = [asdict(site) for site in self.sites]
        meta["maxima"] = {k: float(v) for k, v in self.maxima.items()}
        for group_name in ("activations", "weights"):
            group: dict[str, Scale] = getattr(self, group_name)
            meta[group_name] = {k: {"axis": s.axis, "bits": s.bits} for k, s in group.items()}
            arrays.update({f"{group_name}/{k}": s.value for k, s in group.items()})
        arrays.update({f"rounded/{k}": v for k, v in self.rounded.items()})
        meta["biases"] = sorted(self.biases)
        arrays.update({f"bias/{k}": v for k, v in self.biases.items()})
        for kind in ("outputs", "inputs"):
            factors: dict[str, np.ndarray] = getattr(self.equalised, kind)
            meta[f"equalised_{kind}"] = sorted(factors)
            arrays.update({f"{kind}/{k}": v for k, v in factors.items()})
        meta["digest"] = self.digest()
        with atomic_write(path) as file:
            np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)

    @classmethod
    def load(cls, path: Path) -> ScaleTable:
        """Read and verify; a damaged or foreign file is a TrtLaneError."""
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                if meta["schema"] != SCHEMA:
                    raise TrtLaneError(_other_schema(path, meta))
                groups = {
                    g: {k: Scale(file[f"{g}/{k}"], **v) for k, v in meta[g].items()}
                    for g in ("activations", "weights")
                }
                sites = tuple(Site(s["tensor"], tuple(s["users"]), s["key"]) for s in meta["sites"])
                rounded = {k: file[f"rounded/{k}"] for k in meta["weights"]}
                biases = {k: file[f"bias/{k}"] for k in meta["biases"]}
                equalised = Equalisation(
                    *(
                        {k: file[f"{kind}/{k}"] for k in meta[f"equalised_{kind}"]}
                        for kind in ("outputs", "inputs")
                    )
                )
            facts = {k: dict(meta[k]) for k in ("maxima", "digests", "info")}
            table = cls(
                sites, **groups, rounded=rounded, biases=biases, equalised=equalised, **facts
            )
            digest, expected = table.digest(), meta["digest"]
        except FileNotFoundError:
            raise TrtLaneError(f"no scale table at {path}; run: python -m calibrators") from None
        except _DAMAGE as error:
            raise TrtLaneError(
                f"{path} is not a whole scale table ({error}); calibrate again"
            ) from None
        if digest != expected:
            raise TrtLaneError(f"{path} was changed after it was written; calibrate again")
        return table


def _other_schema(path: Path, meta: dict) -> str:
    """That a table is of another version of trt_lane, and the command that makes it anew."""
    schema, recipe = meta["schema"], dict(meta.get("info", {})).get("recipe", "RECIPE")
    age = "an older" if isinstance(schema, int) and schema < SCHEMA else "another"
    return (
        f"{path} was written by {age} version of trt_lane (schema {schema}, expected {SCHEMA}); "
        f"calibrate again: make calibrate, or python -m calibrators MODEL --recipe {recipe} "
        f"--out {path}"
    )
