"""The command line: figures, messages and exit statuses."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trt_lane
from trt_lane.cli import main
from trt_lane.progress import progress

ROOT = Path(__file__).resolve().parents[1]


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "trt_lane", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"trt-lane {trt_lane.__version__}\n")
    namespace: dict[str, object] = {}
    exec("from trt_lane import __version__", namespace)
    assert namespace["__version__"] == trt_lane.__version__


@pytest.fixture
def culane_case(tmp_path):
    """Two images: one lane found and one made up in the first, one missed in the second."""
    lane = "400 580 420 480 440 380 460 300\n"
    other = "900 580 920 480 940 380 960 300\n"
    files = {"pred/a.lines.txt": lane + other, "anno/a.lines.txt": lane, "anno/b.lines.txt": other}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "list.txt").write_text("/a.jpg\n/b.jpg\n")
    return tmp_path


def culane_words(root: Path, metric: str = "culane") -> list[str]:
    words = ["--pred", root / "pred", "--anno", root / "anno", "--list", root / "list.txt"]
    return ["score", metric, *map(str, words)]


@pytest.mark.parametrize(("iou", "jobs"), [("0.3", 1), ("0.5", 2), ("0.75", 1)])
def test_score_culane_gives_the_official_counts(shared, capsys, iou, jobs):
    root = shared / "data" / "culane_scorer_cases"
    assert main([*culane_words(root), "--iou", iou, "--jobs", str(jobs), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = json.loads((root / "expected.json").read_text())[iou]["total"]
    assert [result[key] for key in ("tp", "fp", "fn")] == expected
    assert (result["images"], result["iou"]) == (150, float(iou))


def test_score_tusimple_gives_the_official_figures(shared, capsys):
    root = shared / "data" / "tusimple_scorer_cases"
    words = ["--pred", str(root / "pred.json"), "--label", str(root / "label.json"), "--json"]
    assert main(["score", "tusimple", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    official = json.loads((root / "expected.json").read_text())["official"]
    expected = {e["name"].lower(): e["value"] for e in official}
    assert {k: result[k] for k in expected} == pytest.approx(expected, abs=1e-12)


def test_score_curvelanes_draws_on_its_small_picture(culane_case, capsys):
    words = [*culane_words(culane_case, "curvelanes"), "--size", "1640x590", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["metric"], result["tp"], result["fp"], result["fn"]) == ("curvelanes", 1, 1, 1)
    # 14 px aside, lanes of 30 px have 16 of 44 in common; on 224x224 it is one pixel of 5.
    (culane_case / "pred/a.lines.txt").write_text("414 580 434 480 454 380 474 300\n")
    found = {}
    for metric in ("culane", "curvelanes"):
        assert main([*culane_words(culane_case, metric), "--size", "1640x590", "--json"]) == 0
        found[metric] = json.loads(capsys.readouterr().out)["tp"]
    assert found == {"culane": 0, "curvelanes": 1}


def test_table_holds_the_same_figures(culane_case, capsys):
    assert main(culane_words(culane_case)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["all", "0.5000", "0.5000", "0.5000", "1", "1", "1"]
    assert "2 images, 1 without a prediction file" in out


def test_categories_get_rows_and_crossroads_only_false_positives(culane_case, capsys):
    splits = culane_case / "splits"
    splits.mkdir()
    (splits / "test7_cross.txt").write_text("/a.jpg\n")
    (splits / "test1_crowd.txt").write_text("/b.jpg\n")
    words = [*culane_words(culane_case), "--categories", str(splits)]
    assert main([*words, "--json"]) == 0
    categories = json.loads(capsys.readouterr().out)["categories"]
    assert categories["cross"] == {"fp": 1}
    assert categories["crowd"]["fn"] == 1
    assert main(words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cross", "-", "-", "-", "-", "1", "-"] in rows


def test_frame_size_and_width_reach_the_scorer(culane_case, capsys):
    assert main([*culane_words(culane_case), "--size", "300x200", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tp"] == 0
    (culane_case / "pred/a.lines.txt").write_text("412 580 432 480 452 380 472 300\n")
    found = []
    for width in ("10", "60"):
        assert main([*culane_words(culane_case), "--width", width, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["tp"])
    assert found == [0, 1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("pred/a.lines.txt", "1 2 3\n", "pred/a.lines.txt, line 1: 3 values; expected x y pairs"),
        ("anno/b.lines.txt", "1 2\n1 z\n", "anno/b.lines.txt, line 2: 'z' is not a number"),
        ("list.txt", "", "names no image"),
        ("list.txt", "/x.jpg\n", "holds no prediction for any of 1 images"),
        ("list.txt", None, "list.txt: No such file"),
    ],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_damaged_files_are_one_line_and_status_2(culane_case, capsys, file, content, message, jobs):
    if content is None:
        (culane_case / file).unlink()
    else:
        (culane_case / file).write_text(content)
    assert main([*culane_words(culane_case), "--jobs", str(jobs)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("trt-lane: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_ends_quietly_with_status_130(culane_case):
    (culane_case / "list.txt").unlink()
    os.mkfifo(culane_case / "list.txt")
    words = [sys.executable, "-m", "trt_lane", *culane_words(culane_case)]
    running = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    with open(culane_case / "list.txt", "w"):  # opens once the command is there to read
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
    errors = running.stderr.read()
    running.stderr.close()
    assert "interrupted" in errors
    assert "Traceback" not in errors


LABEL = '{"raw_file": "a.jpg", "lanes": [[1, 2]], "h_samples": [10, 20]}'


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (
            '{"raw_file": "a.jpg", "lanes": [[1]], "run_time": 9}',
            LABEL,
            "have 1 values; expected 2",
        ),
        ('{"raw_file": "a.jpg", "lanes": []}', LABEL, "no run_time"),
        ('{"raw_file": "a.jpg", "run_time": 9}', LABEL, "no lanes"),
        ('{"raw_file": "b.jpg", "lanes": [], "run_time": 9}', LABEL, "lacks 1 of 1"),
        ("nonsense", LABEL, "pred.json, line 1: not JSON"),
        (LABEL, '{"raw_file": "a.jpg"}', "label.json, line 1: no h_samples"),
        (LABEL + "\n" + LABEL, LABEL, "pred.json, line 2: a.jpg was in line 1"),
    ],
)
def test_damaged_tusimple_files_are_named(tmp_path, capsys, pred, label, message):
    (tmp_path / "pred.json").write_text(pred + "\n")
    (tmp_path / "label.json").write_text(label + "\n")
    words = ["--pred", str(tmp_path / "pred.json"), "--label", str(tmp_path / "label.json")]
    assert main(["score", "tusimple", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--iou", "1.5"], ["--iou", "x"], ["--width", "0"], ["--size", "590"]]
)
def test_numbers_out_of_range_are_refused(culane_case, capsys, option):
    with pytest.raises(SystemExit) as ended:
        main([*culane_words(culane_case), *option])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "expected" in message
    assert message.endswith("; see trt-lane score culane --help\n")
    assert message.count("\n") == 1


def test_help_lists_the_commands_and_unknown_ones_are_refused():
    shown = run("--help")
    assert shown.returncode == 0
    assert {"score", "models"} <= set(shown.stdout.split())
    refused = run("scroe")
    assert refused.returncode == 2
    assert "score" in refused.stderr


def test_models_lists_size_source_and_licence():
    pytest.importorskip("torch")
    listed = run("models", "twinlitenet", "--json")
    assert listed.returncode == 0, listed.stderr
    (row,) = json.loads(listed.stdout)
    assert row["name"] == "twinlitenet.bdd100k"
    assert row["parameters"] == 439_633  # as the official repository states
    assert row["input_hw"] == [360, 640]
    assert row["licence"]
    assert row["source"]
    assert row["macs"] > 1e9


def test_unknown_model_is_named_with_a_suggestion(capsys):
    pytest.importorskip("torch")
    assert main(["models", "twinlitenett"]) == 2
    assert "did you mean 'twinlitenet'" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_unless_on_a_terminal():
    silent, terminal = io.StringIO(), Terminal()
    assert list(progress(range(5), 5, "work", silent)) == list(range(5))
    assert silent.getvalue() == ""
    assert list(progress(range(5), 5, "work", terminal)) == list(range(5))
    assert "work" in terminal.getvalue()
    assert "0/5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
