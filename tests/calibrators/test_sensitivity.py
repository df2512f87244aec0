import dataclasses
import json

import numpy as np
import pytest
import torch
from two_heads import TwoHeadsDecoder, two_heads, write_frames

from calibrators.calibrate import calibrate
from calibrators.network import folded_model
from calibrators.recipe_files import load_recipe
from calibrators.sensitivity import cli
from calibrators.sensitivity.evaluation import evaluation_frames, lanes_of_forms
from calibrators.sensitivity.heads import intra_head_sensitivity
from calibrators.sensitivity.measure import measure
from calibrators.sensitivity.picture import draw
from calibrators.sensitivity.report import explain, text, to_dict
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from trt_lane.models._folded import fold

MINMAX = load_recipe("int8_minmax")


def measured(folder, ruined, lanes=True):
    model, network = two_heads(ruined)
    if not lanes:
        network.exist2.bias.data[:] = -30
    graph_module = fold(network, model.image.input_hw)
    found = evaluation_frames(write_frames(folder), model.image, 6)
    table = calibrate(graph_module, found.inputs, MINMAX)
    return measure(model, graph_module, table, found)


@pytest.fixture(scope="module")
def ruined_place(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("frames"), "place")


def test_the_head_that_was_made_sensitive_is_named_first(ruined_place):
    place, exist = ruined_place.heads
    assert (place.name, exist.name) == ("place", "exist")
    assert place.distortion_px > 3
    assert exist.distortion_px == 0
    assert place.own_layers == ("place1", "place2")
    assert place.own_distortion_px == pytest.approx(place.distortion_px, rel=0.2)


def test_the_layer_that_was_made_sensitive_is_the_worst(ruined_place):
    worst = ruined_place.layers[0]
    assert worst.name == "place2"
    assert worst.distortion_px > 10 * ruined_place.layers[1].distortion_px
    assert worst.rest_distortion_px < 0.2 * ruined_place.outcome[FULL].distortion_px
    assert worst.head_errors["exist"] == 0 < worst.head_errors["place"]
    assert all(part.rest_distortion_px is not None for part in ruined_place.layers)


def test_the_first_lines_say_why_in_words(ruined_place):
    said = explain(ruined_place)
    assert "bends the lanes" in said[0]
    assert said[1].startswith("Head place (columns at rows) bends them")
    assert "own layers (place1, place2" in said[2]
    assert said[3].startswith("Worst layer place2") and "BUDGET=" in said[3]
    lines = text(ruined_place).splitlines()
    assert lines[0].startswith("int8_minmax bends the lanes")
    assert max(map(len, lines)) <= 100


def test_layers_that_were_left_out_are_named_by_block_with_the_worst_of_these(ruined_place):
    whole = text(ruined_place)
    assert "not measured" not in whole and "of those measured" not in whole
    blocks = ruined_place.blocks
    left_out = {path for block in blocks[1:] for path in block.layers}
    layers = tuple(part for part in ruined_place.layers if part.name not in left_out)
    few = dataclasses.replace(ruined_place, layers=layers, unmeasured=len(left_out))
    lines = text(few).splitlines()
    said = " ".join(line.strip() for line in lines)
    names = ", ".join(block.name for block in blocks[1:])
    assert f"{len(left_out)} layers not measured one by one, of: {names}. The worst" in said
    assert f"{blocks[1].name}, gives {blocks[1].distortion_px:.2f} px alone" in said
    assert "harmless" not in said and "Worst layer of those measured" in said
    assert max(map(len, lines)) <= 100


def test_warnings_of_its_own_calibration_are_told(tmp_path, monkeypatch, capsys):
    model, network = two_heads("")
    graph_module = fold(network, model.image.input_hw)
    monkeypatch.setattr(cli, "folded_model", lambda *_: (model, graph_module))
    one = write_frames(tmp_path / "frames", count=1)
    words = ["small", "--recipe", "int8_minmax", "--data", one, "--frames", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "report")]) == 0
    assert "calibrators.sensitivity: warning: " in capsys.readouterr().err


def test_a_sensitive_trunk_is_not_blamed_on_a_head(tmp_path):
    said = explain(measured(tmp_path, "trunk"))
    assert "mostly before the head" in said[2]
    assert "the worst block is body" in said[2]
    assert said[3].startswith("Worst layer body")


def test_a_network_that_keeps_its_lanes_is_said_to(tmp_path):
    found = measured(tmp_path, "")
    assert "keeps the lanes" in explain(found)[0]


def test_a_network_that_sees_no_lanes_is_not_said_to_keep_them(tmp_path):
    (line,) = explain(measured(tmp_path, "place", lanes=False))
    assert "finds no lane on these 6 frames" in line and "keeps" not in line


def test_the_report_holds_every_figure_as_plain_json(ruined_place):
    report = json.loads(json.dumps(to_dict(ruined_place), allow_nan=False))
    assert report["schema"] == 1
    assert [h["name"] for h in report["heads"]] == ["place", "exist"]
    curve = report["heads"][0]["curve"]
    assert curve["shares"] == [0, 0.25, 0.5, 1, 2]
    assert curve["distortion_px"][0] == 0 < curve["distortion_px"][1] < curve["distortion_px"][3]
    assert len(report["layers"]) == 6 and report["layers_not_measured"] == 0
    shares = sum(block["macs_share"] for block in report["blocks"])
    assert shares == pytest.approx(1)
    assert len(report["worst_frames"]) == 6
    worst = [frame["distortion_px"] for frame in report["worst_frames"]]
    assert worst == sorted(worst, reverse=True)
    assert np.mean(worst) == pytest.approx(report["distortion_px"])


def test_the_picture_is_a_png_of_some_size(ruined_place):
    png = draw(ruined_place)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") > 1000


def test_lanes_come_back_in_the_pixels_of_the_frames(tmp_path):
    import cv2

    model, network = two_heads()
    spec = write_frames(tmp_path, 2)
    for path in tmp_path.iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (960, 640)))
    graph_module = fold(network, model.image.input_hw)
    found = evaluation_frames(spec, model.image, 2)
    table = calibrate(graph_module, found.inputs, MINMAX)
    lanes = lanes_of_forms(model.decoder, Variants(graph_module, table), {}, found)
    assert lanes[FLOAT][0].frame_hw == (640, 960)
    assert lanes[FLOAT][0].points[..., 1].max() == 600


def test_noise_has_the_same_energy_wherever_it_is(monkeypatch):
    model, _ = two_heads()
    torch.manual_seed(0)
    floats = {"exist": torch.tensor([[2.0, -2.0]] * 4), "place": torch.randn(4, 2, 6)}
    quantised = {**floats, "place": floats["place"] + 0.5}
    seen = []

    class Spy(TwoHeadsDecoder):
        def __call__(self, exist, place):
            seen.append(place)
            return super().__call__(exist, place)

    found = intra_head_sensitivity(model.head("place"), Spy(), floats, quantised, seeds=(0, 1))
    # The first lane is foreground, the second is not there: no decoder looks at its columns.
    assert min(found.foreground_px) > 0 and max(found.background_px) == 0
    assert found.foreground_share == 0.5 and found.frames == 4 and found.factor == 1
    batches = np.array(seen).reshape(-1, 4, 2, 6)
    energies = np.square(batches[1:] - batches[0]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(energies, energies[0], rtol=1e-4)


def test_a_head_without_confidence_or_without_lanes_has_no_noise_test():
    model, _ = two_heads()
    floats = {"exist": torch.full((3, 2), -4.0), "place": torch.randn(3, 2, 6)}
    assert intra_head_sensitivity(model.head("place"), model.decoder, floats, floats) is None


def test_foreground_noise_bends_lanes_more_than_background_noise_on_the_demo():
    model, graph_module = folded_model("ufld", None)
    frames = evaluation_frames("synthetic:calibration:4", model.image, 4)
    table = calibrate(graph_module, frames.inputs, MINMAX)
    with torch.no_grad():
        floats = graph_module(frames.inputs)
        heads = next(Variants(graph_module, table).runs({}, frames.inputs))[1]
    assert torch.equal(heads[FLOAT]["logits"], floats["logits"])
    found = intra_head_sensitivity(model.heads[0], model.decoder, floats, heads[FULL])
    assert min(found.foreground_px) > 2 * max(found.background_px)


@pytest.mark.slow
def test_the_official_lstr_is_bent_by_its_curve_head(shared):
    model, graph_module = folded_model("lstr.tusimple", shared / "weights/lstr_tusimple.pkl")
    frames = evaluation_frames(f"tusimple:{shared / 'data/tusimple'}", model.image, 8)
    table = calibrate(graph_module, frames.inputs, MINMAX)
    found = measure(model, graph_module, table, frames)
    assert found.heads[0].name == "pred_curves"
    assert found.heads[0].distortion_px > 5 * found.heads[1].distortion_px
    own = found.heads[0].own_layers
    assert len(own) == 6 and found.layers[0].name in own
    assert f"Worst layer {found.layers[0].name}" in text(found).replace("\n  ", " ")
