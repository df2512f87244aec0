"""A command line, as its user sees it refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from trt_lane.console import guarded


def refused(
    capsys: pytest.CaptureFixture, main: Callable[[list[str]], int], words: Sequence[str]
) -> str:
    """The one line of an error that a user can mend; its status is 2."""
    try:
        status = guarded("program", lambda: main(list(words)))
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert told.err.count("\n") == 1
    return told.err
