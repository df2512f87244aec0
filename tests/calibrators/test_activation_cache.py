"""What a unit's tensors take in memory, and that they are the same however they are kept."""

import json

import pytest
import torch
from tiny_networks import folded
from torch.profiler import ProfilerActivity, profile

from calibrators.activation_cache import ActivationCache
from calibrators.calibrate import calibrate
from calibrators.recipe import ReconstructionRecipe
from calibrators.recipe_files import load_recipe
from calibrators.student import make_student
from calibrators.units import Unit, layer_units, network_unit

FRAMES = 64


@pytest.fixture(scope="module")
def networks():
    """Teacher, student, frames."""
    graph_module = folded("downsample")
    frames = torch.randn(FRAMES, 3, 16, 24)
    table = calibrate(graph_module, frames[:4], load_recipe("int8_minmax"))
    return graph_module, make_student(graph_module, table, ReconstructionRecipe()).network, frames


def bytes_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def allocated(path, work):
    """The most bytes that torch's allocator held during the work, and those it kept after it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        kept = work()
    watched.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    held = most = 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most, held, kept


def test_what_is_stored_is_never_held_twice(networks, tmp_path):
    *pair, frames = networks
    unit = layer_units(pair[0])[1]
    cache = ActivationCache(*pair, frames, 1.0)
    inputs, targets = cache.open(unit, mixed=True)(torch.arange(FRAMES))
    whole = 2 * bytes_of(inputs.values()) + bytes_of(targets.values())
    most, held, _ = allocated(tmp_path / "trace.json", lambda: cache.open(unit, mixed=True))
    assert held == pytest.approx(whole, rel=0.02)
    # Beside it only what a few frames take on their way through the network.
    assert most < 1.4 * whole


def test_a_unit_that_reads_the_image_alone_stores_no_image(networks, tmp_path):
    *pair, frames = networks
    unit = network_unit(pair[0])
    cache = ActivationCache(*pair, frames, 1.0)
    _, held, draw = allocated(tmp_path / "trace.json", lambda: cache.open(unit, mixed=False))
    inputs, targets = draw(torch.arange(FRAMES))
    assert held == pytest.approx(bytes_of(targets.values()), rel=0.02)
    assert torch.equal(inputs["image"], frames)
    # So that it is not computed again for every batch either, where its targets fit.
    enough = 1.01 * bytes_of(targets.values()) / 2**30
    exact = ActivationCache(*pair, frames, enough)
    _, held, _ = allocated(tmp_path / "trace.json", lambda: exact.open(unit, mixed=False))
    assert held > 0


def test_the_image_beside_another_input_is_the_frames_own(networks):
    graph_module, student, frames = networks
    (first, second, *_) = layer_units(graph_module)
    both = Unit("both", (), (*second.inputs, *first.inputs), second.outputs)
    assert "image" in both.inputs and len(both.inputs) == 2
    indices = torch.tensor([5, 2])
    for budget_gb in (1.0, 0.0):
        cache = ActivationCache(graph_module, student, frames, budget_gb)
        inputs, _ = cache.open(both, mixed=True)(indices)
        assert tuple(inputs) == both.inputs
        assert torch.equal(inputs["image"], frames[indices])
