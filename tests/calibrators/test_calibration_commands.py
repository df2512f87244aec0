import pytest
from run_program import refused

from calibrators import cli
from calibrators.budget import cli as budget_cli
from calibrators.sensitivity import cli as sensitivity_cli


@pytest.fixture(autouse=True)
def no_frames(monkeypatch):
    """Whatever is refused must be refused before any work; the work would fail these tests."""

    def work(*arguments):
        pytest.fail("the work began")

    for module in (cli, budget_cli, sensitivity_cli):
        monkeypatch.setattr(module, "folded_model", work)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "{folder}"], "it is a folder"),
        (["--out", "{file}/scales.npz"], "cannot write"),
        (["--out", "{folder}/a.npz", "--reference", "{folder}"], "it is a folder"),
        (["--out", "{folder}/a.npz", "--seed", "-1"], "--seed is -1; expected 0 to"),
        (["--out", "{folder}/a.npz", "--seed", str(2**63)], "expected 0 to 2^63 - 1"),
        (["--out", "{folder}/a.npz", "--cache-gb", "nan"], "--cache-gb is nan; expected 0 or more"),
        (["--out", "{folder}/a.npz", "--cache-gb", "-1"], "--cache-gb is -1.0; expected 0 or more"),
        (["--out", "{folder}/a.npz", "--frames", "0"], "--frames is 0; expected 1 or more"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(tmp_path, capsys, words, message):
    assert message in refused(capsys, cli.main, ["ufld", *placed(tmp_path, words)])


BUDGET_MISTAKES = [
    (["--budget-frames", "0"], "--budget-frames is 0; expected 1 or more"),
    (["--budget-minutes", "0"], "--budget-minutes is 0; expected more than 0"),
    (["--budget-minutes", "nan"], "--budget-minutes is nan; expected more than 0"),
    (["--budget-data", "culane:{folder}/nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("words", "message"), BUDGET_MISTAKES)
def test_a_mistake_in_the_budget_is_one_line_before_any_work(tmp_path, capsys, words, message):
    words = placed(tmp_path, ["ufld", "--budget", "0.3", "--out", "{folder}/a.npz", *words])
    assert message in refused(capsys, cli.main, words)


@pytest.mark.parametrize(("words", "message"), BUDGET_MISTAKES)
def test_the_budget_alone_looks_at_its_options_before_its_table(tmp_path, capsys, words, message):
    table = ["--scales", "{folder}/no_table.npz", "--out", "{folder}/a.npz"]
    words = placed(tmp_path, ["ufld", "--budget", "0.3", *table, *words])
    assert message in refused(capsys, budget_cli.main, words)


def test_the_budget_asks_first_where_its_table_goes(tmp_path, capsys):
    words = placed(tmp_path, ["ufld", "--scales", "{file}", "--out", "{folder}"])
    assert "it is a folder" in refused(capsys, budget_cli.main, words)


def test_the_sensitivity_report_asks_first_where_it_goes(tmp_path, capsys):
    words = placed(tmp_path, ["ufld", "--out", "{file}"])
    assert "cannot write" in refused(capsys, sensitivity_cli.main, words)


def placed(tmp_path, words):
    file = tmp_path / "file"
    file.write_bytes(b"")
    return [word.format(folder=tmp_path, file=file) for word in words]
