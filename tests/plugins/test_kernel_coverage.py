from __future__ import annotations

import shutil

import kernel_coverage
import pytest
from plugin_builds import compiler, sources


@pytest.mark.slow
def test_the_cases_run_nearly_every_line_of_the_kernels(capsys):
    if compiler() is None or shutil.which("gcov") is None:
        pytest.skip("no g++ with gcov here")
    status = kernel_coverage.main()
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert printed.count("%") == len(sources(".cu"))
