"""The model files in the documents are whole: what is written there can be copied and used."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from exported import assert_export_agrees, assert_heads_described
from filled import filled

from trt_lane.decoders import decoder_from_dict, decoder_to_dict
from trt_lane.model import get_model, list_families
from trt_lane.models._checkpoint import load_weights

ROOT = Path(__file__).resolve().parents[2]


def family(document, name):
    """A module of the document's code, found as trt_lane/models/<name>.py would be."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.S)
    (code,) = (block for block in blocks if "MODELS" in block)
    module = ModuleType(f"trt_lane.models.{name}")
    exec(compile(code, document, "exec"), module.__dict__)
    return module


@pytest.fixture(params=[("README.md", "mynet"), ("docs/checkpoints.md", "myufld")])
def model(request, monkeypatch):
    document, name = request.param
    module = family(document, name)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("trt_lane.model.list_families", lambda: [name])
    return get_model(f"{name}.r18_culane")


def test_a_family_as_documented_is_whole(model):
    assert_heads_described(model)
    assert (
        decoder_from_dict(json.loads(json.dumps(decoder_to_dict(model.decoder)))) == model.decoder
    )
    heads = {head.name: np.zeros(head.shape, np.float32) for head in model.heads}
    assert model.decoder(**heads).frame_hw == model.image.frame_hw


@pytest.mark.slow
def test_a_family_as_documented_trains_elsewhere_and_exports_here(model, tmp_path):
    network = filled(model)
    assert_export_agrees(model, network)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    load_weights(model, model.build(), tmp_path / "mine.pth")


def test_every_family_has_its_row_in_both_lists():
    readme = (ROOT / "README.md").read_text("utf-8")
    checkpoints = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    for known in list_families():
        assert f"`{known}`" in readme
        assert f"`{known}." in checkpoints


def test_every_variant_in_the_list_of_checkpoints_is_there():
    text = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    for name in re.findall(r"`([a-z0-9]+\.[a-z0-9_]+)`", table):
        if not name.endswith(".pt"):
            assert get_model(name).name == name
