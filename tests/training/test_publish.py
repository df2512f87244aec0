import pytest
import torch
from tiny_training import tiny_model

from training.publish import halved, publish, with_entry
from trt_lane.errors import TrtLaneError
from trt_lane.models._checkpoint import bundled_weights, load_checkpoint

OTHERS = '# why\n[lstr]\nfile = "lstr.safetensors"\n\n[official]\nr18 = "x"\n'


def test_published_weights_load_through_the_listing(tmp_path):
    model = tiny_model()
    state = halved(model.build().state_dict())
    path = publish(tmp_path, "tiny", state, {"minutes": 1.5})
    assert bundled_weights(model, tmp_path) == path
    loaded = load_checkpoint(model, path)
    assert all(torch.equal(loaded[k], v.to(loaded[k].dtype)) for k, v in state.items())


def test_entry_is_added_after_the_others():
    text = with_entry(OTHERS, "ufld", {"f1": 0.9, "file": 'a"b'})
    assert text == OTHERS.rstrip() + '\n\n[ufld]\nf1 = 0.9\nfile = "a\\"b"\n'


def test_entry_is_replaced_where_it_stands():
    once = with_entry(OTHERS, "lstr", {"file": "new"})
    assert once == '# why\n[lstr]\nfile = "new"\n\n[official]\nr18 = "x"\n'
    assert with_entry(once, "lstr", {"file": "new"}) == once


def test_first_entry_of_an_empty_file():
    assert with_entry("", "ufld", {"steps": 3}) == "[ufld]\nsteps = 3\n"


def test_weights_that_do_not_fit_fp16_are_refused():
    with pytest.raises(TrtLaneError, match="first is a"):
        halved({"a": torch.tensor([1e6]), "b": torch.ones(2)})


def test_weights_too_large_to_bundle_are_refused(tmp_path):
    with pytest.raises(TrtLaneError, match="12 MiB"):
        publish(tmp_path, "big", {"a": torch.zeros(7 << 20, dtype=torch.half)}, {})
    assert not (tmp_path / "weights.toml").exists()
