import pytest

from training.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ufdl"], "no lane model 'ufdl'"),
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
