"""Other people's checkpoint files, made to fit a model strictly, or refused with the reason."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.model import LaneModel, list_families
from trt_lane.toml_files import read_toml

WEIGHTS_FOLDER = Path(__file__).resolve().parents[2] / "weights"

# Where training programs keep the network's weights in what they save.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
WRAPPER_DEPTH = 4
# DataParallel, torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# pytorch-auto-drive's own loader renames them too (utils/common.py): its files of early 2021.
FORMER_PREFIXES = {"aux_head.": "lane_classifier."}
# Counters of the `thop` profiler, saved by accident.
PROFILER_SUFFIXES = ("total_ops", "total_params")
COUNTER = "num_batches_tracked"  # absent before PyTorch 0.4.1 and from frozen batch norms

SHOWN = 3


def load_weights(model: LaneModel, module: nn.Module, path: Path | str) -> None:
    """Put a checkpoint's weights into `module`, which `model.build()` made; all keys must fit.

    Files that the model wants beside the checkpoint are read from the checkpoint's folder.
    """
    module.load_state_dict(_fitted(model, module.state_dict(), Path(path)), strict=True)
    if model.companions is not None:
        model.companions(module, Path(path).parent)


def load_checkpoint(model: LaneModel, path: Path | str) -> dict[str, Tensor]:
    """The state dict of a checkpoint file, with the keys and shapes of `model.build()`.

    Wrappers, `module.` prefixes, profiler counters and training-only parts are taken off; half
    precision becomes float32.

    Raises:
        TrtLaneError: the file is missing, empty, truncated, no checkpoint, of another model, or
            holds NaN or infinity.
    """
    return _fitted(model, model.build().state_dict(), Path(path))


def bundled_weights(model: LaneModel, folder: Path = WEIGHTS_FOLDER) -> Path:
    """The bundled weights of a model, listed in weights.toml and checked against its digest."""
    listing = folder / "weights.toml"
    try:
        entries = read_toml(listing)
    except FileNotFoundError:
        entries = {}
    except (OSError, ValueError) as error:
        raise TrtLaneError(f"cannot read {listing}: {error}") from None
    entry = entries.get(model.name)
    if not isinstance(entry, Mapping):
        raise TrtLaneError(f"no weights are bundled for {model.name}; give WEIGHTS={_file(model)}")
    missing = [key for key in ("file", "sha256") if not isinstance(entry.get(key), str)]
    if missing:
        raise TrtLaneError(f"{listing}: [{model.name}] lacks the text {' and '.join(missing)}")
    path = folder / entry["file"]
    if not path.is_file():
        raise TrtLaneError(f"no file {path}, which {listing} names; check it out again")
    digest = sha256_file(path)
    if digest != entry["sha256"]:
        raise TrtLaneError(
            f"{path} has sha256 {digest[:12]}…, expected {entry['sha256'][:12]}… by {listing}; "
            "check the file out again"
        )
    return path


def _file(model: LaneModel) -> str:
    """Where weights of a model come from, as the end of a sentence on WEIGHTS=…."""
    origin = model.origin
    if model.demo:
        return f"FILE, or train it: python -m training {model.name}"
    if origin.checkpoint:
        return f"FILE; the official file is {origin.checkpoint} from {origin.source}"
    return f"FILE; {origin.source} publishes no file for it, only the code that trains it"


def _fitted(model: LaneModel, expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    whole = _cleaned(_read(path), path)
    renamed = _renamed(whole, expected)
    found = {
        key: value
        for key, value in renamed.items()
        if key in expected or not _is_optional(model, key)
    }
    for key, value in expected.items():
        if key.endswith(COUNTER):
            found.setdefault(key, torch.zeros_like(value))
    differences = _differences(_shapes(expected), _shapes(found))
    lacks_only = all(key in expected and expected[key].shape == found[key].shape for key in found)
    if not differences:
        differences = _other_training(model, _shapes(renamed))
        lacks_only = False
    if differences:
        fitting = _models_of(whole)
        wrong = "only part of" if lacks_only and not fitting else "not"
        raise TrtLaneError(
            f"{path} is {wrong} a checkpoint of {model.name}: {differences}; "
            + (
                f"it fits MODEL={' or MODEL='.join(fitting[:SHOWN])}"
                if fitting
                else f"give WEIGHTS={_file(model)}"
            )
        )
    fitted = {key: found[key].to(value.dtype) for key, value in expected.items()}
    bad = [key for key, value in fitted.items() if not torch.isfinite(value).all()]
    if bad:
        raise TrtLaneError(
            f"{path} holds NaN or infinity in {len(bad)} of {len(fitted)} tensors, first: "
            f"{_first(bad)}; expected finite weights; take a checkpoint saved before training broke"
        )
    return fitted


def _read(path: Path) -> Any:
    """What the file holds, on the CPU; nothing in it is executed."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise TrtLaneError(f"no checkpoint {path}; expected a .pth, .pkl or .safetensors") from None
    except OSError as error:
        raise TrtLaneError(
            f"cannot read checkpoint {path}: {error.strerror}; expected a readable file"
        ) from None
    if not head:
        raise TrtLaneError(f"checkpoint {path} is empty; copy or download it again")
    try:
        if head[8:] == b"{":  # safetensors: length of the header, then JSON
            from safetensors.torch import load_file

            return load_file(path)
        if head.startswith(b"PK"):
            _check_archive(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes can raise anything in an unpickler; nothing here but the file is at fault.
        foreign = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        if foreign:
            raise TrtLaneError(
                f"checkpoint {path} holds {foreign[1]}, or is damaged; expected tensors and plain "
                "containers, as other objects could run code; where it was made, save the state "
                "dict alone: torch.save(net.state_dict(), FILE)"
            ) from None
        raise TrtLaneError(
            f"{path} cannot be read as a checkpoint: it is truncated, damaged or of another kind "
            f"({type(error).__name__}); expected a file by torch.save or safetensors; copy or "
            "download it again"
        ) from None


def _check_archive(path: Path) -> None:
    """Compare the checksums in an archive by torch.save, which torch.load does not look at."""
    with zipfile.ZipFile(path) as archive:
        unsigned = not any(entry.CRC for entry in archive.infolist())  # set_crc32_options(False)
        bad = None if unsigned else archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(bad)


def _harmless() -> list:
    """Plain data that training programs save beside weights: numpy scalars, parsed arguments."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    # numpy 2 moved the function; files written with numpy 1 name the old place.
    places = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *kinds, *((scalar, place) for place in places)]


def _cleaned(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of the network under their plain names."""
    for _ in range(WRAPPER_DEPTH):
        if not isinstance(content, Mapping):
            break
        inner = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = inner[0]
    tensors = {}
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(value, Tensor) or str(key).endswith(PROFILER_SUFFIXES):
                continue
            tensors[_plain(str(key))] = value
    if not tensors:
        holds = (
            f"a dict with {_first(str(k) for k in content) or 'nothing in it'}"
            if isinstance(content, Mapping)
            else f"a {type(content).__name__}"
        )
        raise TrtLaneError(
            f"{path} holds {holds}, no weights; expected a state dict, plain or under one of: "
            f"{', '.join(WRAPPERS)}"
        )
    return tensors


def _renamed(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys as they are today, where a file is of a time before its code renamed them."""
    for former, present in FORMER_PREFIXES.items():
        if any(key.startswith(former) for key in expected) or not any(
            key.startswith(present) for key in expected
        ):
            continue
        found = {
            present + key[len(former) :] if key.startswith(former) else key: value
            for key, value in found.items()
        }
    return found


def _plain(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def _differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """What does not fit, first keys first; "" when all does."""
    parts = []
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    other = [key for key in expected if key in found and found[key] != expected[key]]
    if missing:
        parts.append(
            f"{len(missing)} of {len(expected)} keys are missing, first: {_first(missing)}"
        )
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected, first: {_first(unexpected)}")
    if other:
        parts.append(
            f"{len(other)} of other shape, first: "
            + ", ".join(f"{k} is {found[k]}, expected {expected[k]}" for k in other[:SHOWN])
        )
    return "; ".join(parts)


def _first(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:SHOWN])


def _other_training(model: LaneModel, found: Mapping[str, tuple[int, ...]]) -> str:
    """Which keys say that the checkpoint was trained for another variant; "" when none does."""
    other = [key for key, shape in model.training_shapes.items() if found.get(key, shape) != shape]
    if not other:
        return ""
    return "the network fits, but it was trained for other data: " + ", ".join(
        f"{key} is {found[key]}, expected {model.training_shapes[key]}" for key in other[:SHOWN]
    )


def _models_of(whole: dict[str, Tensor]) -> list[str]:
    """Models whose checkpoint it can be."""
    return [name for family in list_families() for name in _fitting(family, whole)]


def _fitting(family: str, whole: dict[str, Tensor]) -> list[str]:
    """Models of a family whose checkpoint it can be."""
    names = []
    # This only words an error: a family that does not import, or does not build without memory, is
    # left out of the guess rather than raised in the place of what the user has to know.
    with suppress(Exception), torch.device("meta"):
        for model in import_module(f"trt_lane.models.{family}").MODELS:
            expected = model.network().state_dict()
            if _fits(model, _shapes(expected), _shapes(_renamed(whole, expected))):
                names.append(model.name)
    return names


def _fits(
    model: LaneModel,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
) -> bool:
    unequal = expected.keys() ^ found.keys()
    return (
        all(_is_optional(model, key) for key in unequal)
        and all(expected[key] == found[key] for key in expected.keys() & found.keys())
        and not _other_training(model, found)
    )


def _is_optional(model: LaneModel, key: str) -> bool:
    return key.endswith(COUNTER) or key.startswith(model.training_only)
