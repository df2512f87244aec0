import json

import pytest

from benchmarks.__main__ import main
from benchmarks.scorer_speed import made_pairs, read_pairs, scorer_speed


def test_all_ways_count_the_same_and_ours_is_far_ahead_of_whole_masks():
    ours, plain, official = scorer_speed(made_pairs(12), rounds=2)
    assert ours.counts == plain.counts == official.counts
    assert ours.counts[0][0] > 0 and ours.counts[1][0] < ours.counts[0][0]
    # 10 times and more on a quiet machine; this one may be busy
    assert plain.seconds > 5 * ours.seconds


@pytest.mark.slow
def test_counts_are_the_official_evaluators_on_its_own_cases(shared):
    root = shared / "data" / "culane_scorer_cases"
    pairs = read_pairs(root / "pred", root / "anno", root / "list.txt")
    expected = json.loads((root / "expected.json").read_text())
    for way in scorer_speed(pairs, rounds=1):
        assert [list(c) for c in way.counts] == [expected[t]["total"] for t in ("0.5", "0.75")]


def test_command_prints_ratios_and_writes_them(tmp_path, capsys):
    out = tmp_path / "speed.json"
    assert main(["scorer-speed", "--images", "2", "--rounds", "1", "--out", str(out)]) == 0
    assert "same counts" in capsys.readouterr().out
    assert json.loads(out.read_text())["ways"][0]["times_ours"] == 1.0


def test_one_folder_alone_is_a_mistake(tmp_path, capsys):
    assert main(["scorer-speed", "--pred", str(tmp_path)]) == 2
    assert "give all three or none" in capsys.readouterr().err
