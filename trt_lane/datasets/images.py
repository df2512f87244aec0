"""A folder of images: unlabelled frames, for calibration and for looking at."""

from __future__ import annotations

from pathlib import Path

from trt_lane.datasets.base import IMAGE_SUFFIXES, Label, frames_digest, natural_order
from trt_lane.datasets.named_images import NamedImages
from trt_lane.errors import TrtLaneError

KIND = "images"
ARGUMENT = "DIR of images (searched through), or one image"


class ImageFolder(NamedImages):
    """Every image below a folder in natural order; hidden files and folders are left out."""

    metric = None

    def __init__(self, root: Path, image_names: list[str], spec: str) -> None:
        super().__init__(root.name or "images", spec, root, image_names)

    def label(self, index: int) -> Label:
        """The name only."""
        return Label(self.image_names[index])

    def digest(self) -> str:
        """Over names and images."""
        return frames_digest(self.root, self.image_names, KIND)


def open(argument: str) -> ImageFolder:
    """Open a folder, or one image as a data set of one."""
    path = Path(argument).expanduser()
    spec = f"{KIND}:{path}"
    if path.is_file():
        return ImageFolder(path.parent, [path.name], spec)
    if not path.is_dir():
        raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
    names = [str(p.relative_to(path).as_posix()) for p in path.rglob("*") if _is_image(p, path)]
    if not names:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise TrtLaneError(f"no images in {path}; expected files that end in one of {kinds}")
    return ImageFolder(path, sorted(names, key=natural_order), spec)


def recognise(path: Path) -> int:
    """1 for any folder, 2 for an image file: other kinds of data set are folders of images too."""
    if path.is_file():
        return 2 * (path.suffix.lower() in IMAGE_SUFFIXES)
    return int(path.is_dir())


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
