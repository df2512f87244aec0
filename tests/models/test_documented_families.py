"""The model files in the documents are whole: what is written there can be copied and used."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
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


@pytest.mark.parametrize(
    ("document", "row"), [("README.md", "`{}`"), ("docs/checkpoints.md", "`{}.")]
)
def test_every_family_has_its_row(document, row):
    text = (ROOT / document).read_text("utf-8")
    missing = [known for known in list_families() if row.format(known) not in text]
    assert not missing, f"add to the table of models in {document}: {', '.join(missing)}"


def test_every_variant_in_the_list_of_checkpoints_is_there():
    text = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    for name in re.findall(r"`([a-z0-9]+\.[a-z0-9_]+)`", table):
        if not name.endswith(".pt"):
            assert get_model(name).name == name


def test_families_whose_files_do_not_tell_their_data_set_are_named():
    text = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    (named,) = re.findall(r"Some networks are alike(.*?)There `MODEL`", text, re.S)
    for title, models in re.findall(r"^\| ([^|]+) \| (`[^|]+) \|", text, re.M):
        for known in sorted(set(re.findall(r"`([a-z0-9]+)\.", models))):
            assert (title in named) == any_are_alike(known), known


def any_are_alike(known):
    """Whether a checkpoint of one variant fits another one."""
    kinds = []
    for model in import_module(f"trt_lane.models.{known}").MODELS:
        with torch.device("meta"):
            keys = model.network().state_dict()
        kinds.append(({k: v.shape for k, v in keys.items()}, model.training_shapes))
    return any(kind in kinds[:i] for i, kind in enumerate(kinds))
