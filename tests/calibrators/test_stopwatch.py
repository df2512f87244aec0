import pytest

from calibrators import stopwatch
from calibrators.stopwatch import Stopwatch
from trt_lane.files import read_json, write_json


def test_time_of_a_run_that_was_cut_off_counts_when_it_goes_on(tmp_path):
    write_json(tmp_path / "t", 100.0)
    with Stopwatch(tmp_path / "t", goes_on=True) as watch:
        pass
    assert watch.resumed
    assert 100 <= watch.seconds < 105
    assert not (tmp_path / "t").exists()


def test_time_of_another_run_does_not_count(tmp_path):
    write_json(tmp_path / "t", 100.0)
    with Stopwatch(tmp_path / "t", goes_on=False) as watch:
        pass
    assert not watch.resumed
    assert watch.seconds < 5


@pytest.mark.parametrize("text", ["", "{", '"x"', "null"])
def test_a_damaged_file_counts_as_none(tmp_path, text):
    (tmp_path / "t").write_text(text)
    with Stopwatch(tmp_path / "t", goes_on=True) as watch:
        pass
    assert not watch.resumed


def test_the_time_so_far_lies_on_disk_while_running_and_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(stopwatch, "BEAT_S", 0.01)
    path = tmp_path / "t"
    with pytest.raises(KeyboardInterrupt), Stopwatch(path, goes_on=False):
        for _ in range(500):
            if path.is_file():
                break
            stopwatch.time.sleep(0.01)
        seen = read_json(path)
        raise KeyboardInterrupt
    assert read_json(path) >= seen > 0
