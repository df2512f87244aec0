"""EngineArtifact: an engine with the sidecar that says what it is and on what it may run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file, write_bytes
from trt_lane.image import ImageSpec
from trt_lane.sealed_json import is_sealed, seal

SCHEMA = 1
SIDECAR = "artifact.json"
# Beside every engine that was built of a bundle.
BUNDLE_MANIFEST = "manifest.json"
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
RUNTIMES = ("onnxruntime", "tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class HeadShape:
    """One output of the engine: name in the engine and shape without the batch axis."""

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or not self.name.isprintable():
            raise ValueError(f"a head is called {self.name!r}; expected a name")
        shape = tuple(self.shape)
        if not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"head {self.name} has shape {shape}; expected positive sizes")
        object.__setattr__(self, "shape", shape)


@dataclass(frozen=True)
class EngineArtifact:
    """All that a vehicle must know to run an engine and to refuse a wrong one.

    Attributes:
        folder: where sidecar and engine lie.
        engine: file name of the engine in the folder.
        model: name of the lane model.
        image: geometry and normalisation.
        decoder: decoder_to_dict of the decoder.
        heads: outputs in the decoder's names.
        input_name: the engine's input, float32 or float16 (batch, 3, h, w).
        precision: "int8", "fp16" …, for people.
        target: name of the target, part of the mending command.
        runtime: what executes it: onnxruntime, tensorrt or tensorrt_rtx.
        built_with: version of the builder.
        runtime_range: runtime versions from (inclusive) to (exclusive) that may load it.
        cuda: CUDA version at building, "" for a CPU.
        compute_capabilities: GPUs that it runs on (87 = sm_87), empty for a CPU.
        digests: sha256 by name: "engine" always; "onnx", "scales", "weights" of what it came from,
            "plugin_library" where one is needed.
        plugin_library: file name of the plugins in the folder, or None.
        info: plain facts (recipe, coverage).
        batch: frames that the engine takes at once.
    """

    folder: Path = field(compare=False)
    engine: str
    model: str
    image: ImageSpec
    decoder: Mapping[str, Any]
    heads: tuple[HeadShape, ...]
    input_name: str
    precision: str
    target: str
    runtime: str
    built_with: str
    runtime_range: tuple[str, str]
    cuda: str
    compute_capabilities: tuple[int, ...]
    digests: Mapping[str, str]
    plugin_library: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        for name in (self.engine, self.plugin_library):
            if name is not None and (not name or Path(name).name != name or name in (".", "..")):
                raise ValueError(f"file name is {name!r}; expected a name in the artifact's folder")
        if self.runtime not in RUNTIMES:
            raise ValueError(f"runtime is {self.runtime!r}; expected one of {', '.join(RUNTIMES)}")
        if not self.heads:
            raise ValueError("no heads; expected at least one output")
        if "engine" not in self.digests:
            raise ValueError("no digest of the engine")
        if self.plugin_library is not None and "plugin_library" not in self.digests:
            raise ValueError("no digest of the plugin library")
        object.__setattr__(self, "runtime_range", tuple(self.runtime_range))
        low, high = map(version_numbers, self.runtime_range)
        if low >= high:
            raise ValueError(f"runtime_range {self.runtime_range} is empty")

    @property
    def engine_path(self) -> Path:
        """The engine file."""
        return self.folder / self.engine

    @property
    def plugin_path(self) -> Path | None:
        """The plugin library, or None."""
        return None if self.plugin_library is None else self.folder / self.plugin_library

    @property
    def make_command(self) -> str:
        """What makes this artifact again: on a vehicle its bundle, else the workshop."""
        if (self.folder / BUNDLE_MANIFEST).is_file():
            return "trt-lane install BUNDLE, or trt-lane rollback"
        return f"make engine MODEL={self.model} TARGET={self.target}"

    def make_decoder(self) -> Callable[..., Any]:
        """The decoder; it takes the heads by name and gives a LaneSet."""
        return decoder_from_dict(dict(self.decoder))

    def save(self) -> Path:
        """Write the sidecar, atomically; last, after the files that it names."""
        values = self.to_dict()
        path = self.folder / SIDECAR
        write_bytes(path, seal(values))
        return path

    def to_dict(self) -> dict:
        """The sidecar's content without its own digest."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "folder"}
        own["image"] = self.image.to_dict()
        own["heads"] = [{"name": h.name, "shape": h.shape} for h in self.heads]
        # Through JSON and back, so that a digest does not depend on tuples or lists.
        return json.loads(json.dumps({"schema": SCHEMA, **own}, allow_nan=False))

    @classmethod
    def load(cls, path: Path | str) -> EngineArtifact:
        """Read and verify an artifact.

        Args:
            path: its folder, its sidecar or its engine file.

        Raises:
            TrtLaneError: missing, damaged or changed files, or another schema.
        """
        sidecar = _find_sidecar(Path(path).expanduser())
        values = _read_sidecar(sidecar)
        artifact = cls._from_values(sidecar, values)
        given = Path(path).expanduser()
        if given.is_file() and given.name not in (sidecar.name, artifact.engine):
            raise TrtLaneError(f"{given} is not the engine of {sidecar}: that is {artifact.engine}")
        artifact._check_files()
        return artifact

    @classmethod
    def _from_values(cls, sidecar: Path, values: dict) -> EngineArtifact:
        try:
            own = {k: v for k, v in values.items() if k != "schema"}
            own["image"] = ImageSpec.from_dict(own["image"])
            own["heads"] = tuple(HeadShape(h["name"], tuple(h["shape"])) for h in own["heads"])
            own["compute_capabilities"] = tuple(own["compute_capabilities"])
            artifact = cls(folder=sidecar.parent, **own)
            artifact.make_decoder()
        except (
            *(TypeError, ValueError, KeyError, AttributeError, OverflowError),
            TrtLaneError,
        ) as error:
            raise TrtLaneError(
                f"{sidecar} does not describe an engine: {error}; {_again(values)}"
            ) from None
        return artifact

    def _check_files(self) -> None:
        named = {"engine": self.engine_path, "plugin_library": self.plugin_path}
        for key, path in named.items():
            if path is None:
                continue
            if not path.is_file():
                raise TrtLaneError(f"{path} is missing; run: {self.make_command}")
            found = sha256_file(path)
            if found != self.digests[key]:
                raise TrtLaneError(
                    f"{path} is not the file that was built (sha256 {found[:12]}…, expected "
                    f"{self.digests[key][:12]}…); run: {self.make_command}"
                )

    def check_runtime(self, version: str, compute_capability: int | None = None) -> None:
        """Refuse a runtime or a GPU that the engine was not built for.

        Args:
            version: of the runtime found here.
            compute_capability: of the GPU found here, 87 for sm_87; None for a CPU.
        """
        low, high = map(version_numbers, self.runtime_range)
        built_for = ", ".join(f"sm_{c}" for c in self.compute_capabilities) or "CPU"
        other_device = (
            compute_capability is not None and compute_capability not in self.compute_capabilities
        )
        if not low <= version_numbers(version) < high or other_device:
            here = "" if compute_capability is None else f"sm_{compute_capability} with "
            raise TrtLaneError(
                f"engine was built for {built_for} with {self.runtime} {self.built_with}, this is "
                f"{here}{version} (accepted: {self.runtime_range[0]} up to but not "
                f"{self.runtime_range[1]}); run: {self.make_command}"
            )


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, 10.3.0.26 -> (10, 3, 0, 26), up to a part that is none."""
    numbers = []
    for part in str(text).split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    if not numbers:
        raise ValueError(f"{text!r} is no version; expected numbers like 10.3")
    return tuple(numbers)


def _find_sidecar(path: Path) -> Path:
    if path.is_dir():
        found = path / SIDECAR
    elif path.name == SIDECAR:
        found = path
    elif path.is_file():
        found = path.parent / SIDECAR
    else:
        raise TrtLaneError(f"no artifact at {path}; run: make engine MODEL=…")
    if not found.is_file():
        raise TrtLaneError(
            f"no sidecar {found}; an engine runs only with the file that describes it; "
            "run: make engine MODEL=…"
        )
    return found


def _read_sidecar(path: Path) -> dict:
    """The sidecar's values without its digest; every byte of the file is accounted for."""
    try:
        data = path.read_bytes()
        values = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise TrtLaneError(
            f"cannot read the sidecar {path}: {error}; run: make engine MODEL=…"
        ) from None
    if not isinstance(values, dict) or "schema" not in values:
        raise TrtLaneError(
            f"{path} is not the sidecar of an engine; expected {SIDECAR} beside one; "
            "run: make engine MODEL=…"
        )
    if values["schema"] != SCHEMA:
        raise TrtLaneError(
            f"{path} has schema {values['schema']!r}, this version of trt_lane reads {SCHEMA}; "
            f"{_again(values)}"
        )
    values.pop("digest", None)
    if not is_sealed(data, values):
        raise TrtLaneError(f"{path} was changed after it was written; {_again(values)}")
    return values


def _check_types(artifact: EngineArtifact) -> None:
    expected = {
        str: (
            "engine",
            "model",
            "input_name",
            "precision",
            "target",
            "runtime",
            "built_with",
            "cuda",
        ),
        Mapping: ("decoder", "digests", "info"),
        tuple: ("heads", "compute_capabilities"),
    }
    for kind, names in expected.items():
        for name in names:
            value = getattr(artifact, name)
            if not isinstance(value, kind):
                raise ValueError(f"{name} is {value!r}; expected {kind.__name__.lower()}")
    # They are shown on terminals, and model and target stand in commands that people paste.
    for name in expected[str]:
        if not getattr(artifact, name).isprintable():
            raise ValueError(f"{name} is {getattr(artifact, name)!r}; expected plain text")
    for name in (artifact.model, artifact.target):
        if not _PLAIN.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a model or a target")
    if type(artifact.batch) is not int or artifact.batch < 1:
        raise ValueError(f"batch is {artifact.batch!r}; expected 1 or more frames")
    if not all(type(c) is int for c in artifact.compute_capabilities):
        raise ValueError(f"compute_capabilities is {artifact.compute_capabilities}")
    if not all(isinstance(d, str) for d in artifact.digests.values()):
        raise ValueError("digests must be texts")
    if not isinstance(artifact.plugin_library, (str, type(None))):
        raise ValueError(f"plugin_library is {artifact.plugin_library!r}; expected a name or null")


def _again(values: dict) -> str:
    """The command, with no word of a sidecar that cannot be trusted but plain names."""
    model, target = (str(values.get(key, "…")) for key in ("model", "target"))
    plain = (name if _PLAIN.fullmatch(name) else "…" for name in (model, target))
    return "run: make engine MODEL={} TARGET={}".format(*plain)
