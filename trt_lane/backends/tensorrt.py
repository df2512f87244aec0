"""TensorRT 10.3 to 11.x and TensorRT-RTX: named tensors, one stream, buffers made once, one graph.

Whatever touches the driver is a call of CudaDriver. A frame is enqueued the first time it has a
size; the second time it is captured as a CUDA graph (copies, pre-processing, engine, decoder), and
from then on one launch does all of it, until a frame of another size comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import FrameNotTakenError
from trt_lane.backends.cuda_driver import CudaDriver, DeviceError
from trt_lane.backends.device_graph import Replay
from trt_lane.backends.device_memory import DeviceMemory
from trt_lane.backends.device_stages import DeviceStages, open_stages
from trt_lane.backends.device_timer import StageTimer
from trt_lane.backends.tensorrt_module import LoadedEngine, load_runtime
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import LANE_OUTPUTS, LaneOutputs

_HALF, _FLOAT, _BYTE = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.uint8)


class TensorRtBackend:
    """An engine on a GPU with its context, stream, graph and buffers.

    Args:
        artifact: verified.
        device: number of the GPU.
        trt: the runtime's module; None imports the artifact's.
        driver: None opens the system's.
        stages: pre-processing and decoder on the device; None takes the artifact's library.

    Raises:
        TrtLaneError: no runtime, no GPU, another version or device, too little memory.
    """

    def __init__(
        self,
        artifact: EngineArtifact,
        device: int = 0,
        *,
        trt: Any = None,
        driver: CudaDriver | None = None,
        stages: DeviceStages | None = None,
    ) -> None:
        trt = load_runtime(artifact) if trt is None else trt
        self._driver = CudaDriver(device) if driver is None else driver
        self._artifact, self._stages = artifact, stages
        artifact.check_runtime(trt.__version__, self._driver.compute_capability)
        self._heads = tuple(head.name for head in artifact.heads)
        self._frames = tuple(f"frame {i}" for i in range(artifact.batch))
        self._frame_hw: tuple[int, int] | None = None
        self._memory: DeviceMemory | None = None
        self._timer: StageTimer | None = None
        self._engine: LoadedEngine | None = None
        self._replay: Replay | None = None
        self._stream: int | None = None
        self._driver.retain()
        self._closed = False
        try:
            with self._driver.current():
                self._open(trt)
        except BaseException as error:
            self.close()
            if isinstance(error, DeviceError) and error.out_of_memory:
                raise TrtLaneError(
                    f"not enough GPU memory for {artifact.engine_path} ({error.call}); "
                    "end other programs"
                ) from None
            raise

    # -- frames in, lanes out -----------------------------------------------------------------

    @property
    def takes_frames(self) -> bool:
        """Whether `lanes` works: pre-processing and decoder are on the device."""
        return self._stages is not None

    def lanes(self, frames: Sequence[np.ndarray]) -> LaneOutputs:
        """Lanes of up to `batch` BGR uint8 frames of one size, in the model's frame pixels.

        Returns:
            Outputs of the whole batch, with whether each frame's heads were finite.

        Raises:
            FrameNotTakenError: the size is beyond what the kernels take.
        """
        self._check_open()
        frame_hw = frames[0].shape[:2]
        with self._driver.current():
            if frame_hw != self._frame_hw:
                self._prepare(frame_hw)
            for name, frame in zip(self._frames, frames, strict=False):
                np.copyto(self._memory[name].host, frame)
            self._replay.run(("frames", frame_hw), self._enqueue_frames)
        return LaneOutputs(*(self._memory[name].host.copy() for name in LANE_OUTPUTS))

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Heads by name, float32 without the batch axis, of a float32 (1, 3, h, w) image."""
        return {name: head[0] for name, head in self.run(image).items()}

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Heads by name, float32 (batch, ...), of float32 (batch, 3, h, w) images."""
        self._check_open()
        host = self._memory[self._artifact.input_name].host
        if images.shape != host.shape or images.dtype != np.float32:
            raise TrtLaneError(
                f"network input is {images.dtype} {images.shape}; expected float32 {host.shape}"
            )
        np.copyto(host, images, casting="same_kind")
        with self._driver.current():
            self._replay.run("images", self._enqueue_images)
        # Copies: the buffers are the next frame's.
        return {name: np.array(self._memory[name].host, np.float32) for name in self._heads}

    # -- timing -------------------------------------------------------------------------------

    def time_stages(self) -> None:
        """From now on the GPU notes when its stages begin and end; a graph has no such points."""
        with self._driver.current():
            self._replay.captures = False
            self._replay.forget()
            self._timer.start()

    @property
    def stages_ms(self) -> dict[str, float]:
        """What the last frame took on the GPU, by CUDA events: h2d, network, d2h.

        With `lanes` the kernels around the engine count as network.
        """
        with self._driver.current():
            return self._timer.stages_ms()

    # -- closing ------------------------------------------------------------------------------

    def close(self) -> None:
        """Free all that was made, in the order that the driver wants; a second call does nothing.

        Raises:
            DeviceError: what a lost device refused to free; the rest was freed all the same.
        """
        if self._closed:
            return
        self._closed = True
        failures: list[DeviceError] = []

        def attempt(step: Callable[[], None]) -> None:
            try:
                step()
            except DeviceError as error:
                failures.append(error)

        def free() -> None:
            with self._driver.current():
                for step in self._closing_steps():
                    attempt(step)

        attempt(free)
        attempt(self._driver.release)
        if failures:
            raise failures[0]

    def _closing_steps(self) -> Iterator[Callable[[], None]]:
        driver, stream = self._driver, self._stream
        if stream is not None:
            yield lambda: driver.synchronize(stream)
        if self._replay is not None:
            yield self._replay.forget
        if self._engine is not None:
            yield self._engine.close
        if self._timer is not None:
            yield from self._timer.freeing()
        if self._memory is not None:
            yield from self._memory.freeing()
        if stream is not None:
            yield lambda: driver.destroy_stream(stream)

    # -- opening ------------------------------------------------------------------------------

    def _open(self, trt: Any) -> None:
        artifact = self._artifact
        self._engine = LoadedEngine(trt, artifact)
        if self._engine.context is None:
            raise TrtLaneError(
                f"not enough GPU memory for {artifact.engine_path} "
                f"({self._driver.free_bytes() >> 20} MiB free); end other programs"
            )
        self._memory = DeviceMemory(self._driver)
        self._stream = self._driver.create_stream()
        self._replay = Replay(self._driver, self._stream)
        self._timer = StageTimer(self._driver, self._stream)
        for name, (shape, dtype) in self._engine.tensors().items():
            buffer = self._memory.add(name, shape, dtype)
            self._engine.context.set_tensor_address(name, buffer.device)
        self._use_stages()

    def _use_stages(self) -> None:
        """Make room for the decoder's outputs, where its kernels are here and take the heads.

        An engine with the plugin in its graph (`engines attach`) has the outputs already.
        """
        if self._stages is None:
            self._stages = open_stages(self._artifact)
        self._decodes = all(name in self._memory for name in LANE_OUTPUTS)
        if self._stages is None or self._decodes:
            return
        types = {self._memory[name].host.dtype for name in self._heads}
        if len(types) != 1 or not types <= {_HALF, _FLOAT}:
            self._stages = None
            return
        self._half = types == {_HALF}
        batch, slots, points = self._artifact.batch, self._stages.slots, self._stages.points
        shapes = ((batch, slots, points, 2), (batch, slots), (batch, 2))
        for name, shape, dtype in zip(
            LANE_OUTPUTS, shapes, (_FLOAT, _FLOAT, np.dtype(np.int32)), strict=True
        ):
            self._memory.add(name, shape, dtype)
        self._memory.reserve("decode", self._stages.workspace_bytes(batch))

    def _prepare(self, frame_hw: tuple[int, int]) -> None:
        """Room for frames of another size; the graph of the old ones goes first."""
        self._replay.forget()
        self._frame_hw = None
        dtype = self._memory[self._artifact.input_name].host.dtype
        try:
            workspace = self._stages.prepare(self._artifact.image, frame_hw, dtype)
        except TrtLaneError as error:
            raise FrameNotTakenError(str(error)) from None
        self._memory.reserve("preprocess", workspace)
        for name in self._frames:
            self._memory.drop(name)
        for name in self._frames:
            self._memory.add(name, (*frame_hw, 3), _BYTE)
        self._frame_hw = frame_hw

    # -- what one frame is on the stream ------------------------------------------------------

    def _enqueue_images(self) -> None:
        self._timer.mark(0)
        self._memory[self._artifact.input_name].upload(self._stream)
        self._timer.mark(1)
        self._enqueue_engine()
        self._timer.mark(2)
        for name in self._heads:
            self._memory[name].download(self._stream)
        self._timer.mark(3)

    def _enqueue_frames(self) -> None:
        memory, stream = self._memory, self._stream
        self._timer.mark(0)
        for name in self._frames:
            memory[name].upload(stream)
        self._timer.mark(1)
        self._stages.preprocess(
            [memory[name].device for name in self._frames],
            memory[self._artifact.input_name].device,
            memory.workspace("preprocess"),
            stream,
        )
        self._enqueue_engine()
        if not self._decodes:
            self._stages.decode(
                {name: memory[name].device for name in self._heads},
                self._half,
                self._artifact.batch,
                tuple(memory[name].device for name in LANE_OUTPUTS),
                memory.workspace("decode"),
                stream,
            )
        self._timer.mark(2)
        # The heads stay on the device: the decoder says whether they are finite.
        for name in LANE_OUTPUTS:
            memory[name].download(stream)
        self._timer.mark(3)

    def _enqueue_engine(self) -> None:
        if not self._engine.context.execute_async_v3(self._stream):
            raise TrtLaneError(
                f"{self._artifact.runtime} could not run {self._artifact.engine_path}; "
                "see its log on stderr"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise TrtLaneError("the engine was closed; open it again")
