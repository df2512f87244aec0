"""Commands in the documents are commands that there are."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_lines(path: Path) -> list[str]:
    """Lines of fenced code, continued ones joined, comments left out."""
    blocks = re.findall(r"^ *```[a-z]*\n(.*?)^ *```", path.read_text("utf-8"), re.M | re.S)
    text = re.sub(r"\\\n\s*", " ", "\n".join(blocks))
    return [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]


def makefile_names() -> tuple[set[str], set[str]]:
    """Targets, and variables that it has or mentions."""
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    variables = set(re.findall(r"^([A-Z_]+) [?:]?=", text, re.M))
    return targets, variables | set(re.findall(r"\$\(([A-Z_]+)\)", text))


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Document and words behind every call of a program."""
    found = []
    for path in DOCUMENTS:
        for line in code_lines(path):
            match = re.search(rf"(?:^|[ /])({re.escape(program)}) (.*)", line)
            if match and "…" not in match[2] and "[" not in match[2]:
                found.append((path.name, shlex.split(match[2])))
    return found


@pytest.mark.parametrize(("document", "words"), commands("trt-lane"))
def test_a_documented_command_of_trt_lane_is_understood(document, words):
    if words == ["."]:  # a container of that name is being built
        return
    command = import_module(f"trt_lane.commands.{words[0].replace('-', '_')}")
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    parser.parse_args(words[1:])


@pytest.mark.parametrize(("document", "words"), commands("make"))
def test_a_documented_make_target_is_there(document, words):
    targets, variables = makefile_names()
    for word in words:
        name = word.partition("=")[0]
        assert name in (variables if "=" in word else targets), f"{document}: make {word}"


def test_the_commands_were_found():
    assert len(commands("trt-lane")) > 15 and len(commands("make")) > 5


def test_systemd_understands_the_unit(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    unit = (ROOT / "deploy" / "trt-lane.service").read_text("utf-8")
    # The program and its user are not installed here.
    unit = unit.replace("/opt/trt_lane/bin/trt-lane", "/bin/true").replace("User=trt_lane\n", "")
    (tmp_path / "trt-lane.service").write_text(unit)
    done = subprocess.run(
        [program, "verify", str(tmp_path / "trt-lane.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [x for x in done.stderr.splitlines() if "trt-lane.service" in x]
    assert not complaints, done.stderr


@pytest.mark.parametrize("name", ["Dockerfile.l4t", "Dockerfile.desktop"])
def test_an_image_holds_what_checking_a_signature_takes(name):
    """Else a vehicle with keys refuses every bundle."""
    text = (ROOT / "deploy" / name).read_text("utf-8")
    assert re.search(r"pip install .*\bcryptography\b", text)
    for word in re.search(r"^COPY (.+) /src/$", text, re.M)[1].split():
        assert (ROOT / word).is_file(), word
