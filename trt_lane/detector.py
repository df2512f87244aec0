"""LaneDetector: load an engine once, then frame in, lanes out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, FrameNotTakenError, open_backend
from trt_lane.compiled_preprocess import InputMaker
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, Fitted, fit_frame
from trt_lane.lanes import LaneSet
from trt_lane.plugin_library import PluginLibrary, find_host_library

if TYPE_CHECKING:  # loaded by the first detect_async, with logging behind it
    from concurrent.futures import Future, ThreadPoolExecutor

# Frames that detect_async takes before it waits: more would only grow old in the queue.
QUEUE = 4


@dataclass(frozen=True, eq=False)
class Detection:
    """Lanes of one frame, and whether the network's answer was one.

    Attributes:
        lanes: in the frame's own pixels; none when the answer is not sound.
        sound: False when a head held NaN or infinity.
    """

    lanes: LaneSet
    sound: bool


class LaneDetector:
    """A loaded engine with its geometry and decoder; a context manager.

    Thread-safe: any thread may call any method, and frames are taken one call after the other,
    since there is one engine with one set of buffers.
    """

    def __init__(self, artifact: EngineArtifact, backend: Backend, fit: Fit = Fit.ERROR) -> None:
        self.artifact = artifact
        self.fit = Fit(fit)
        self._backend: Backend | None = backend
        self._decoder = artifact.make_decoder()
        library = _library(artifact)
        self._compiled = _compiled_decoder(artifact, library)
        self._fill = InputMaker(artifact.image, library)
        self._input = np.empty((artifact.batch, 3, *artifact.image.input_hw), np.float32)
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._closing = False
        self._room = threading.BoundedSemaphore(QUEUE)

    @classmethod
    def load(
        cls, path: Path | str, *, threads: int | None = None, fit: Fit | str = Fit.ERROR
    ) -> LaneDetector:
        """Verify an artifact and load its engine.

        Args:
            path: the artifact's folder, its sidecar or its engine.
            threads: CPU threads of ONNX Runtime; None for as many as there are cores.
            fit: what to do with frames of another aspect ratio than the model's.

        Raises:
            TrtLaneError: damaged or changed files, another runtime, another device.
        """
        chosen = _checked(fit)
        return cls.open(EngineArtifact.load(path), threads=threads, fit=chosen)

    @classmethod
    def open(
        cls, artifact: EngineArtifact, *, threads: int | None = None, fit: Fit | str = Fit.ERROR
    ) -> LaneDetector:
        """`load` of an artifact that was verified a moment ago, which takes as long again.

        Raises:
            TrtLaneError: another runtime, another device.
        """
        chosen = _checked(fit)
        backend = open_backend(artifact, threads)
        try:
            return cls(artifact, backend, chosen)
        except BaseException:  # nobody else could give it back
            backend.close()
            raise

    @property
    def batch(self) -> int:
        """Frames that the engine takes at once; detect_many fills up to it."""
        return len(self._input)

    @property
    def decodes_compiled(self) -> bool:
        """Whether a compiled decoder does the decoding, or numpy."""
        return self._compiled is not None

    def detect(self, frame: np.ndarray) -> LaneSet:
        """The lanes of a BGR uint8 frame (H, W, 3), in that frame's own pixels.

        Heads with NaN or infinity give no lanes.

        Raises:
            TrtLaneError: not a frame, an aspect ratio that `fit` refuses, or a closed detector.
        """
        return self.detect_many([frame])[0].lanes

    def detect_async(self, frame: np.ndarray) -> Future[LaneSet]:
        """`detect` in the detector's own thread; the caller leaves the frame alone until then.

        Frames are taken in the order of the calls. With QUEUE frames waiting the call waits, too.
        """
        from concurrent.futures import ThreadPoolExecutor

        self._room.acquire()
        try:
            with self._lock:
                if self._closing:
                    raise _closed()
                if self._worker is None:
                    self._worker = ThreadPoolExecutor(1, "LaneDetector")
                future = self._worker.submit(self.detect, frame)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def detect_many(self, frames: Sequence[np.ndarray]) -> list[Detection]:
        """Detections of several frames, of any sizes, in their order.

        Raises:
            TrtLaneError: as `detect`; then of none of them.
        """
        fitted = [fit_frame(frame, self.artifact.image, self.fit) for frame in frames]
        found = []
        with self._lock:
            on_device = getattr(self._check_open(), "takes_frames", False)
            for part in _parts(fitted, self.batch, of_one_size=on_device):
                found += self._detect_on_device(part) if on_device else self._detect_here(part)
        return found

    def _detect_here(self, part: Sequence[Fitted]) -> list[Detection]:
        heads = self._run(part)
        return [
            self._decode({name: head[i] for name, head in heads.items()}, one)
            for i, one in enumerate(part)
        ]

    def _detect_on_device(self, part: Sequence[Fitted]) -> list[Detection]:
        """The backend does it all; its lanes are in the pixels of the model's frame."""
        try:
            outputs = self._check_open().lanes([one.frame for one in part])
        except FrameNotTakenError:
            return self._detect_here(part)
        found = []
        for i, one in enumerate(part):
            if outputs.sound(i):
                lanes = one.to_original(outputs.lanes(i, self.artifact.image.frame_hw))
                found.append(Detection(lanes, sound=True))
            else:
                found.append(Detection(LaneSet.from_lanes([], one.original_hw), sound=False))
        return found

    def heads(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """The network's raw outputs by head, float32 without the batch axis, for comparisons."""
        fitted = fit_frame(frame, self.artifact.image, self.fit)
        with self._lock:
            return {name: head[0] for name, head in self._run([fitted]).items()}

    def _run(self, fitted: Sequence[Fitted]) -> dict[str, np.ndarray]:
        """Heads (batch, ...); places without a frame hold what was there before."""
        backend = self._check_open()
        for place, one in zip(self._input, fitted, strict=False):
            self._fill(one.frame, place)
        if self.batch == 1:
            return {name: head[None] for name, head in backend.infer(self._input).items()}
        return backend.run(self._input)

    def _decode(self, heads: dict[str, np.ndarray], fitted: Fitted) -> Detection:
        if not all(np.isfinite(head).all() for head in heads.values()):
            return Detection(LaneSet.from_lanes([], fitted.original_hw), sound=False)
        decode = self._compiled or self._decoder
        return Detection(fitted.to_original(decode(**heads)), sound=True)

    def _check_open(self) -> Backend:
        if self._backend is None:
            raise _closed()
        return self._backend

    def close(self) -> None:
        """Finish what detect_async has begun, cancel what waits, free the engine.

        A second call does nothing.
        """
        with self._lock:
            self._closing = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def __enter__(self) -> LaneDetector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _checked(fit: Fit | str) -> Fit:
    try:
        return Fit(fit)
    except ValueError:
        known = ", ".join(f.value for f in Fit)
        raise TrtLaneError(f"fit is {fit!r}; expected one of {known}") from None


def _closed() -> TrtLaneError:
    return TrtLaneError("the detector was closed; load it again")


def _library(artifact: EngineArtifact) -> PluginLibrary | None:
    """The artifact's own library, else that of `make plugins-host`, else None."""
    if artifact.plugin_path is None:
        return find_host_library()
    return PluginLibrary(artifact.plugin_path)


def _parts(fitted: Sequence[Fitted], batch: int, of_one_size: bool) -> Iterator[list[Fitted]]:
    """Up to `batch` frames that follow each other, all of one size where that is asked for."""
    part: list[Fitted] = []
    for one in fitted:
        other_size = of_one_size and part and one.frame.shape != part[0].frame.shape
        if len(part) == batch or other_size:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _compiled_decoder(
    artifact: EngineArtifact, library: PluginLibrary | None
) -> Callable[..., Any] | None:
    """The library's decoder, or None where it has none that takes the numbers."""
    name = artifact.decoder["name"]
    if library is None or name not in library.decoders:
        return None
    try:
        return library.make(artifact.decoder, {h.name: h.shape for h in artifact.heads})
    except TrtLaneError:  # numbers beyond the plugin's limits: numpy has none
        return None
