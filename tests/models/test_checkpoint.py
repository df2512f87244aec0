import hashlib
import re
import sys
from argparse import Namespace
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trt_lane.decoders.lstr_curve import LstrCurve
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.model import LaneModel, Origin, get_model
from trt_lane.models._checkpoint import bundled_weights, load_checkpoint, load_weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


MODEL = LaneModel(
    name="small.any",
    image=ImageSpec((10, 20), (10, 20)),
    heads=(),
    decoder=LstrCurve((10, 20), (1.0, 2.0), 1, 2),
    network=Small,
    origin=Origin("https://example.org/small", "MIT", "small.pth", "CULane F1 1"),
    training_only=("aux.",),
)


def weights(seed=0):
    torch.manual_seed(seed)
    return {k: torch.rand_like(v.float()).to(v.dtype) for k, v in Small().state_dict().items()}


def assert_same(found, expected):
    assert list(found) == list(Small().state_dict())
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda w: {"net": {f"module.{k}": v for k, v in w.items()}, "epoch": 1},
        lambda w: {"model": {"state_dict": {f"_orig_mod.module.{k}": v for k, v in w.items()}}},
        lambda w: {"state_dict": w, "best": torch.tensor(0.5)},
        lambda w: {"model": w, "args": Namespace(lr=0.1), "f1": np.float64(0.7), "n": np.int64(3)},
        lambda w: {**w, "total_ops": torch.ones(1), "conv.total_params": torch.ones(1)},
        lambda w: {**w, "aux.head.weight": torch.ones(7)},
        lambda w: {**w, "_extra": "text"},
    ],
    ids=[
        "plain",
        "epoch",
        "optimizer",
        "net",
        "nested",
        "best",
        "arguments",
        "profiled",
        "aux",
        "text",
    ],
)
def test_wrapped_checkpoint_loads(tmp_path, wrap):
    torch.save(wrap(weights()), tmp_path / "a.pth")
    assert_same(load_checkpoint(MODEL, tmp_path / "a.pth"), weights())


def test_module_takes_the_weights(tmp_path):
    torch.save({"model": weights()}, tmp_path / "a.pth")
    module = MODEL.build()
    load_weights(MODEL, module, tmp_path / "a.pth")
    assert_same(module.state_dict(), weights())


def test_checkpoint_without_batch_counters_loads(tmp_path):
    kept = {k: v for k, v in weights().items() if not k.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / "a.pth")
    found = load_checkpoint(MODEL, tmp_path / "a.pth")
    assert_same(found, {**weights(), "bn.num_batches_tracked": torch.tensor(0)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_other_precisions_become_float32(tmp_path, dtype):
    cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights().items()}
    torch.save(cast, tmp_path / "a.pth")
    found = load_checkpoint(MODEL, tmp_path / "a.pth")
    assert found["conv.weight"].dtype == torch.float32
    assert torch.equal(found["conv.weight"], cast["conv.weight"].float())


def test_half_precision_safetensors_load_under_any_name(tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    save_file(half, tmp_path / "weights.bin")
    found = load_checkpoint(MODEL, tmp_path / "weights.bin")
    assert_same(found, {k: v.to(found[k].dtype) for k, v in half.items()})


def legacy(path):
    torch.save(weights(), path, _use_new_zipfile_serialization=False)


def zipped(path):
    torch.save(weights(), path)


def safe(path):
    save_file(weights(), path)


@pytest.mark.parametrize("save", [legacy, zipped, safe])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path, save, share):
    path = tmp_path / "cut.pth"
    save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(path, r"cut\.pth.* (truncated|is damaged)")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"0.1 0.2 0.3\nnot a checkpoint\n", "cannot be read as a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be read as a checkpoint"),
        (bytes(64), "cannot be read as a checkpoint"),
        (b'\xff\xff\xff\xff\xff\xff\xff\x7f{"a": 1}', "cannot be read as a checkpoint"),
    ],
    ids=["empty", "text", "image", "zeros", "huge header"],
)
def test_file_of_another_kind_is_refused(tmp_path, data, reason):
    (tmp_path / "a.pth").write_bytes(data)
    assert_refused(tmp_path / "a.pth", reason)


@pytest.mark.parametrize("checksums", [True, False])
def test_weights_that_changed_since_they_were_saved_are_refused(tmp_path, checksums):
    path = tmp_path / "w.pth"
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(weights(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    load_checkpoint(MODEL, path)
    data = bytearray(path.read_bytes())
    data[data.find(weights()["conv.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    if checksums:
        with pytest.raises(TrtLaneError, match="damaged"):
            load_checkpoint(MODEL, path)
    else:  # nothing to compare with; the loader must still take such files
        load_checkpoint(MODEL, path)


def test_missing_file_and_folder_are_refused(tmp_path):
    assert_refused(tmp_path / "none.pth", "no checkpoint")
    assert_refused(tmp_path, "cannot read")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "a dict with nothing in it, no weights"),
        ({"epoch": 3, "lr": 0.1}, "a dict with epoch, lr, no weights"),
        ([1, 2], "a list, no weights"),
        (torch.ones(3), "a Tensor, no weights"),
    ],
)
def test_file_without_weights_is_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", reason)


def test_file_with_arbitrary_objects_is_not_executed(tmp_path):
    torch.save({"state_dict": weights(), "image": ImageSpec((1, 1), (1, 1))}, tmp_path / "a.pth")
    assert_refused(
        tmp_path / "a.pth", r"holds trt_lane\.image\.ImageSpec, or is damaged; expected tensors"
    )


def test_differing_keys_and_shapes_are_named(tmp_path):
    changed = weights()
    changed["convolution.bias"] = changed.pop("conv.bias")
    changed["conv.weight"] = torch.ones(4, 1, 3, 3)
    torch.save(changed, tmp_path / "a.pth")
    assert_refused(
        tmp_path / "a.pth",
        r"not a checkpoint of small.any: 1 of 7 keys are missing, first: conv\.bias; "
        r"1 unexpected, first: convolution\.bias; 1 of other shape, first: conv\.weight is "
        r"\(4, 1, 3, 3\), expected \(4, 3, 3, 3\); .*small\.pth from https://example\.org",
    )


def test_part_of_a_checkpoint_is_named_as_such(tmp_path):
    torch.save({k: v for k, v in weights().items() if k.startswith("bn.")}, tmp_path / "a.pth")
    assert_refused(
        tmp_path / "a.pth",
        r"is only part of a checkpoint of small.any: 2 of 7 keys are missing, first: conv\.weight, "
        r"conv\.bias; give WEIGHTS=",
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    broken = weights()
    broken["bn.running_var"][2] = bad
    torch.save(broken, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", r"NaN or infinity in 1 of 7 tensors, first: bn\.running_var")


@pytest.fixture
def sisters(monkeypatch):
    """Two variants of a made-up family whose networks are alike, trained for 5 and 7 classes."""
    five, seven = (
        replace(MODEL, name=f"small.{name}", training_shapes={"aux.head.bias": (classes,)})
        for name, classes in (("five", 5), ("seven", 7))
    )
    module = ModuleType("trt_lane.models.small")
    module.MODELS = (five, seven)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("trt_lane.models._checkpoint.list_families", lambda: ["small"])
    return five, seven


def test_checkpoint_that_was_trained_for_a_sister_is_refused_with_its_name(tmp_path, sisters):
    five, seven = sisters
    content = {**weights(), "aux.head.bias": torch.ones(7), "aux.head.weight": torch.ones(7, 2)}
    torch.save(content, tmp_path / "a.pth")
    assert_same(load_checkpoint(seven, tmp_path / "a.pth"), weights())
    with pytest.raises(TrtLaneError) as refused:
        load_checkpoint(five, tmp_path / "a.pth")
    assert str(refused.value) == (
        f"{tmp_path / 'a.pth'} is not a checkpoint of small.five: the network fits, but it was "
        "trained for other data: aux.head.bias is (7,), expected (5,); it fits MODEL=small.seven"
    )


def test_checkpoint_that_was_trained_for_no_known_variant_says_where_one_is(tmp_path, sisters):
    torch.save({**weights(), "aux.head.bias": torch.ones(9)}, tmp_path / "a.pth")
    for model in sisters:
        with pytest.raises(TrtLaneError, match=r"bias is \(9,\), expected .*; give WEIGHTS=FILE"):
            load_checkpoint(model, tmp_path / "a.pth")


def test_checkpoint_without_its_training_parts_fits_all_sisters(tmp_path, sisters):
    torch.save(weights(), tmp_path / "a.pth")
    for model in sisters:
        assert_same(load_checkpoint(model, tmp_path / "a.pth"), weights())


def test_training_shapes_of_keys_that_inference_uses_are_refused():
    with pytest.raises(ValueError, match=r"\['conv\.weight'\]; expected keys under training_only"):
        replace(MODEL, training_shapes={"conv.weight": (1,), "aux.bias": (1,)})


def test_checkpoint_of_a_sister_model_is_refused_with_its_name(shared):
    with pytest.raises(TrtLaneError, match=r"class_embed\.weight is \(3, 32\).*MODEL=lstr\.culane"):
        load_checkpoint(get_model("lstr.tusimple"), shared / "weights" / "lstr_culane.pkl")


def test_checkpoint_of_another_family_is_refused(shared):
    with pytest.raises(TrtLaneError, match=r"not a checkpoint of ufld: .* are missing"):
        load_checkpoint(get_model("ufld"), shared / "weights" / "twinlitenet_bdd100k.pth")


def listed(folder, digest):
    (folder / "weights.toml").write_text(
        f'["small.any"]\nfile = "small.safetensors"\nsha256 = "{digest}"\n'
        'licence = "Apache-2.0"\norigin = "training/"\n'
    )


def test_bundled_weights_are_found_and_checked(tmp_path):
    save_file(weights(), tmp_path / "small.safetensors")
    path = tmp_path / "small.safetensors"
    listed(tmp_path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert bundled_weights(MODEL, tmp_path) == path
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(TrtLaneError, match=r"expected .* check the file out again"):
        bundled_weights(MODEL, tmp_path)
    path.unlink()
    with pytest.raises(TrtLaneError, match=r"no file .*small\.safetensors"):
        bundled_weights(MODEL, tmp_path)


def test_model_without_bundled_weights_says_where_they_are(tmp_path):
    for prepare in (lambda: None, lambda: listed(tmp_path, "0")):
        prepare()
        with pytest.raises(TrtLaneError, match=r"LSTR_500000\.pkl .*github\.com/liuruijin17/LSTR"):
            bundled_weights(get_model("lstr.tusimple"), tmp_path)
    with pytest.raises(TrtLaneError, match="publishes no file"):
        bundled_weights(get_model("ufld.r34_culane"), tmp_path)


def test_damaged_listing_is_refused(tmp_path):
    (tmp_path / "weights.toml").write_text("[small.any\n")
    with pytest.raises(TrtLaneError, match=r"cannot read .*weights\.toml"):
        bundled_weights(MODEL, tmp_path)
    (tmp_path / "weights.toml").write_text('["small.any"]\nfile = 3\n')
    with pytest.raises(TrtLaneError, match="lacks the text file and sha256"):
        bundled_weights(MODEL, tmp_path)


def assert_refused(path, reason):
    with pytest.raises(TrtLaneError, match=reason) as caught:
        load_checkpoint(MODEL, path)
    assert "\n" not in str(caught.value)
    assert re.search(re.escape(str(path)), str(caught.value))
