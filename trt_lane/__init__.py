"""trt_lane: lane detectors as verified INT8 engines; this package is what rides in the car."""

from importlib import import_module

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
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trt_lane' has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(f"trt_lane.{_PUBLIC[name]}"), name)


def _version() -> str:
    # Not at the start: importlib.metadata takes 45 ms and 7 MB, with the e-mail parser behind it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trt-lane")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+source"
