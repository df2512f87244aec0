"""Installing a bundle: nothing is current before it was checked, built and proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trt_lane.artifact import EngineArtifact
from trt_lane.bundle.archive import BundleReader, open_bundle
from trt_lane.bundle.golden import GoldenResult, GoldenSet, run_golden
from trt_lane.bundle.signature import check_signature
from trt_lane.detector import LaneDetector
from trt_lane.errors import CheckFailedError, TrtLaneError
from trt_lane.fit import Fit
from trt_lane.installing.engine import Progress, build_engine
from trt_lane.installing.facts import MachineFacts, check_machine, read_facts
from trt_lane.installing.store import Store


@dataclass(frozen=True)
class Installed:
    """What an installation did.

    Attributes:
        name: of the engine in the store.
        artifact: the engine.
        golden: how it did on the golden frames.
        signer: who made the bundle, as far as it is known.
        previous: the engine that was current before, or None.
    """

    name: str
    artifact: EngineArtifact
    golden: GoldenResult
    signer: str
    previous: str | None


def install(
    bundle: Path,
    store: Store,
    *,
    keys: Sequence[Path] = (),
    facts: MachineFacts | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Installed:
    """Check, build and prove the engine of a bundle, then make it current.

    Args:
        bundle: the archive.
        store: where it goes.
        keys: public keys to accept besides the store's own; with any, unsigned is refused.
        facts: of this machine; None looks.
        threads: CPU threads for the golden frames.
        progress: told what is being done.

    Raises:
        TrtLaneError: the bundle is not whole or not for this machine, or the engine is wrong.
            The current engine is untouched then, and nothing of the bundle is left.
    """
    with store.locked():
        store.sweep()
        with open_bundle(bundle) as reader:
            signer = _verify(reader, [*store.keys(), *keys], progress)
            manifest = reader.manifest
            facts = facts or read_facts(store.root, manifest.recipe.builder)
            check_machine(manifest.recipe, manifest.needs, facts)
            with store.staging() as folder:
                reader.unpack(folder)
                timing = store.root / "timing"
                artifact = build_engine(
                    folder, manifest, str(facts.builder_version), timing, progress
                )
                if progress is not None:
                    progress("golden frames", None, 0.0)
                golden = prove(folder, threads)
                if not golden.passed:
                    raise CheckFailedError(
                        f"the engine that was built is wrong: {golden}; the current one stays"
                    )
                name = store.adopt(folder, f"{artifact.model}-{artifact.digests['onnx'][:12]}")
            state = store.switch(name)
        store.sweep()
    return Installed(name, store.current(), golden, signer, state.previous)


def prove(folder: Path, threads: int | None = None) -> GoldenResult:
    """Load an engine as a program would, and run the golden frames that lie beside it.

    Raises:
        TrtLaneError: it does not load, or the bundle's numbers do not fit its network.
    """
    golden = GoldenSet.load(folder)
    with LaneDetector.load(folder, threads=threads, fit=Fit.CROP) as detector:
        try:
            return run_golden(detector.detect, folder, golden)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise TrtLaneError(
                f"the bundle's decoder does not fit its network: {error}; make the bundle again"
            ) from None


def _verify(reader: BundleReader, keys: Sequence[Path], progress: Progress | None) -> str:
    signer = check_signature(reader.manifest_bytes, reader.signature, keys)

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress("checking every byte", done / total, 0.0)

    reader.verify(show)
    return signer
