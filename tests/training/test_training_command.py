import pytest

from training.__main__ import _parser, _recipe, main
from training.targets import targets_of
from trt_lane.model import get_model


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ufdl"], "no lane model 'ufdl'"),
        (["ufld", "ufdl"], "no lane model 'ufdl'"),
        (["ufld", "lstr.tusimple"], "no training target for the decoder 'lstr_curve'"),
        (["ufld", "ganet", "--weights", "a.safetensors"], "a.safetensors is for one model"),
        (["ufld", "--minutes", "-3"], "minutes is -3"),
        (["ufld", "--frames", "3"], "at most all 3 frames"),
        (["ufld", "--evaluate", "--weights", "absent.safetensors"], "absent.safetensors"),
        (["ufld", "--evaluate", "--out", "absent"], "no weights are bundled for ufld"),
    ],
)
def test_mistake_is_one_line_and_a_status(capsys, arguments, said):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_steps_decide_where_the_recipe_itself_counts_minutes():
    recipe = targets_of(get_model("erfnet")).RECIPE
    assert recipe.minutes is not None
    changed = _recipe(recipe, _parser().parse_args(["erfnet", "--steps", "7"]))
    assert changed.minutes is None and changed.progress(7, seconds=0) == 1


def test_models_are_trained_in_turn_and_a_stop_ends_the_sequence(monkeypatch, tmp_path, capsys):
    answers = {"erfnet": tmp_path / "erfnet.safetensors", "ganet": None}
    asked = []

    def train(model, *rest):
        asked.append(model.name)
        return answers[model.name]

    monkeypatch.setattr("training.__main__.train", train)
    assert main(["erfnet", "ganet", "laneatt", "--work", str(tmp_path)]) == 130
    assert asked == ["erfnet", "ganet"]
    captured = capsys.readouterr()
    assert "erfnet.safetensors" in captured.out and "run the same command again" in captured.err
