"""trt_lane: lane detectors as verified INT8 engines; this package is what rides in the car."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("trt-lane")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

# name -> module that defines it; resolved on first use so that `import trt_lane` stays instant.
_PUBLIC = {
    "ImageSpec": "image",
    "LaneSet": "lanes",
    "LaneModel": "model",
    "get_model": "model",
    "list_models": "model",
    "EngineArtifact": "artifact",
    "LaneDetector": "detector",
    "TrtLaneError": "errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Import public names on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trt_lane' has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(f"trt_lane.{_PUBLIC[name]}"), name)
