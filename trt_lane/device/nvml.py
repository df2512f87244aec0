"""NVIDIA's management library, by the official Python module (nvidia-ml-py); only ever asked."""

from __future__ import annotations

from typing import Any

from trt_lane.device.state import DeviceState

# Bits of nvmlClocksEventReasons in nvml.h. Idle and application clocks hold nothing down that a
# measurement under load would meet, or were set on purpose.
REASONS = {
    0x0000000000000004: "software power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000010: "sync boost",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "hardware power brake",
    0x0000000000000100: "display clocks",
}


def throttle_reasons(mask: int) -> tuple[str, ...]:
    """Words for the bits that say the clocks are held down."""
    return tuple(word for bit, word in REASONS.items() if mask & bit)


class Nvml:
    """The first GPU; `open` gives None where no driver answers."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    @classmethod
    def open(cls) -> Nvml | None:
        """The GPU with index 0, None without the module, the driver or a GPU."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        except pynvml.NVMLError:
            return None

    def facts(self) -> dict[str, str]:
        """Name, compute capability, driver, CUDA and highest clocks, as far as they are told."""
        found: dict[str, str] = {}
        name = self._ask("nvmlDeviceGetName", self._handle)
        if name is not None:
            found["gpu"] = _text(name)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", self._handle)
        if capability is not None:
            found["sm"] = f"sm_{capability[0]}{capability[1]}"
        driver = self._ask("nvmlSystemGetDriverVersion")
        if driver is not None:
            found["driver"] = _text(driver)
        cuda = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        if cuda is not None:
            found["cuda_driver"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
        memory = self._ask("nvmlDeviceGetMemoryInfo", self._handle)
        if memory is not None:
            found["gpu_memory"] = f"{memory.total / 2**30:.1f} GiB"
        for key, kind in (("gpu_max_mhz", "NVML_CLOCK_SM"), ("memory_max_mhz", "NVML_CLOCK_MEM")):
            clock = self._ask("nvmlDeviceGetMaxClockInfo", self._handle, self._constant(kind))
            if clock is not None:
                found[key] = str(clock)
        return found

    def state(self) -> DeviceState:
        """Clocks, temperature, throttle reasons, power, energy and memory now."""
        clocks = {}
        for key, kind in (("gpu", "NVML_CLOCK_SM"), ("memory", "NVML_CLOCK_MEM")):
            clock = self._ask("nvmlDeviceGetClockInfo", self._handle, self._constant(kind))
            if clock is not None:
                clocks[key] = float(clock)
        sensor = self._constant("NVML_TEMPERATURE_GPU")
        temperature = self._ask("nvmlDeviceGetTemperature", self._handle, sensor)
        mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle)
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", self._handle)
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", self._handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", self._handle)
        return DeviceState(
            clocks_mhz=clocks,
            temperatures_c={} if temperature is None else {"gpu": float(temperature)},
            throttle=None if mask is None else throttle_reasons(mask),
            power_w=None if milliwatts is None else milliwatts / 1000,
            energy_j=None if millijoules is None else millijoules / 1000,
            memory_used_mb=None if memory is None else memory.used / 2**20,
        )

    def close(self) -> None:
        """Let the library go."""
        self._ask("nvmlShutdown")

    def _constant(self, name: str) -> int:
        return getattr(self._library, name)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function says, None where this GPU or driver does not know."""
        try:
            return getattr(self._library, function)(*arguments)
        except (self._library.NVMLError, AttributeError):
            return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
