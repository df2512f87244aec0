"""Manifest: what is in a bundle, what it makes, and what it asks of a vehicle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trt_lane.artifact import BUNDLE_MANIFEST, EngineArtifact, HeadShape
from trt_lane.building.recipe import BuildRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.sealed_json import seal, unseal

SCHEMA = 1
MANIFEST, SIGNATURE = BUNDLE_MANIFEST, "signature.json"
MAX_FILES, MAX_FILE_BYTES = 4096, 4 << 30
# Plain names without dots in front: no `..`, no hidden file, nothing absolute, nothing to quote.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*){0,4}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle: size in bytes and SHA-256 in hex."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 0 <= self.size <= MAX_FILE_BYTES:
            raise ValueError(f"size is {self.size!r}; expected 0 to {MAX_FILE_BYTES} bytes")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; expected 64 hexadecimal digits")


@dataclass(frozen=True)
class Needs:
    """What an installation takes: bytes of disk under the root, bytes of free memory."""

    disk_bytes: int
    memory_bytes: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 0")


@dataclass(frozen=True)
class Manifest:
    """What a bundle is.

    Attributes:
        model, image, decoder, heads, input_name, precision, digests, info: what the sidecar of the
            engine will say, as in EngineArtifact.
        recipe: what builds the engine, and where.
        graph: the file that is built.
        needs: of disk and memory.
        budget_ms: p99 latency from frame to lanes that the engine must keep, None for none.
        made_by: version of trt_lane.
        files: size and digest by name, of every file but the manifest and its signature.
        batch: frames that the graph takes at once.
    """

    model: str
    image: ImageSpec
    decoder: Mapping[str, Any]
    heads: tuple[HeadShape, ...]
    input_name: str
    precision: str
    digests: Mapping[str, str]
    recipe: BuildRecipe
    graph: str
    needs: Needs
    budget_ms: float | None
    made_by: str
    files: Mapping[str, FileEntry]
    info: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.files, Mapping) or not 0 < len(self.files) <= MAX_FILES:
            raise ValueError(f"expected 1 to {MAX_FILES} files")
        for name in self.files:
            check_name(name)
        folders = {str(p) for name in self.files for p in Path(name).parents}
        both = sorted(folders & self.files.keys())
        if both:
            raise ValueError(f"{both[0]!r} is a file and a folder")
        if self.graph not in self.files:
            raise ValueError(f"the graph {self.graph!r} is not among the files")
        if not isinstance(self.digests, Mapping) or "onnx" not in self.digests:
            raise ValueError("no digest of the ONNX")
        for name, digest in self.digests.items():
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                raise ValueError(f"digest of {name} is {digest!r}; expected 64 hexadecimal digits")
        if not isinstance(self.made_by, str):
            raise ValueError(f"made_by is {self.made_by!r}; expected a version")
        budget = self.budget_ms
        if budget is not None and (type(budget) not in (int, float) or not 0 < budget < 1e6):
            raise ValueError(f"budget_ms is {budget!r}; expected milliseconds or null")
        # The sidecar's own checks, before there is an engine.
        self.artifact(Path(), "0" * 64, "0").make_decoder()

    def artifact(
        self,
        folder: Path,
        engine_sha256: str,
        built_with: str,
        *,
        cuda: str = "",
        compute_capabilities: tuple[int, ...] = (),
        plugin_library: tuple[str, str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> EngineArtifact:
        """The artifact of an engine that was built of this bundle.

        Args:
            folder: where it lies.
            engine_sha256: of the engine file.
            built_with: version of the builder.
            cuda: CUDA version, "" for a CPU.
            compute_capabilities: GPUs that the engine runs on.
            plugin_library: file name and SHA-256 of the compiled decoders, where there are any.
            info: further plain facts.
        """
        digests = {**self.digests, "engine": engine_sha256}
        if plugin_library is not None:
            digests["plugin_library"] = plugin_library[1]
        return EngineArtifact(
            folder=folder,
            engine=self.recipe.engine_name,
            model=self.model,
            image=self.image,
            decoder=self.decoder,
            heads=self.heads,
            input_name=self.input_name,
            precision=self.precision,
            target=self.recipe.target,
            runtime=self.recipe.builder.value,
            built_with=built_with,
            runtime_range=self.recipe.runtime_range(built_with),
            cuda=cuda,
            compute_capabilities=compute_capabilities,
            digests=digests,
            plugin_library=None if plugin_library is None else plugin_library[0],
            info={**self.info, **(info or {})},
            batch=self.batch,
        )

    def to_bytes(self) -> bytes:
        """The file manifest.json."""
        values = {
            "schema": SCHEMA,
            "model": self.model,
            "image": self.image.to_dict(),
            "decoder": dict(self.decoder),
            "heads": [{"name": h.name, "shape": list(h.shape)} for h in self.heads],
            "input_name": self.input_name,
            "precision": self.precision,
            "digests": dict(self.digests),
            "recipe": self.recipe.to_dict(),
            "graph": self.graph,
            "needs": asdict(self.needs),
            "budget_ms": self.budget_ms,
            "made_by": self.made_by,
            "files": {name: asdict(entry) for name, entry in self.files.items()},
            "info": dict(self.info),
            "batch": self.batch,
        }
        return seal(values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read manifest.json.

        Raises:
            TrtLaneError: it is damaged, of another schema, or says what cannot be.
        """
        try:
            values = unseal(data)
            schema = values.pop("schema")
            if schema != SCHEMA:
                raise TrtLaneError(
                    f"the bundle has schema {schema!r}, this version of trt_lane reads {SCHEMA}; "
                    "make it again with `make bundle`, or update trt_lane"
                )
            missing = sorted({f.name for f in fields(cls)} - values.keys())
            if missing:
                raise ValueError(f"it does not say {', '.join(missing)}")
            values["image"] = ImageSpec.from_dict(values["image"])
            values["heads"] = tuple(
                HeadShape(h["name"], tuple(h["shape"])) for h in values["heads"]
            )
            values["recipe"] = BuildRecipe.from_dict(values["recipe"])
            values["needs"] = Needs(**values["needs"])
            values["files"] = {k: FileEntry(**v) for k, v in values["files"].items()}
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise TrtLaneError(f"the bundle's manifest is no manifest: {error}") from None


def check_name(name: str) -> None:
    """Refuse a name that is not a plain relative path, or that a tar header cannot hold."""
    reserved = name in (MANIFEST, SIGNATURE)
    if not isinstance(name, str) or len(name) > 100 or not _NAME.fullmatch(name) or reserved:
        raise ValueError(f"{name!r} is not a plain file name inside a bundle")
