"""What the README shows exists: its examples are the tests that run, its commands are ones that the parser takes."""

import re
import shlex
from pathlib import Path

import pytest

from kvmharness.cli.main import parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)


def commands():
    """Every `kvmharness ...` in a block of commands, without its comment."""
    for language, block in BLOCKS:
        if language == "":
            for line in block.splitlines():
                if found := re.match(r"(?:\$ |sudo |git bisect run )*kvmharness (.*)", line):
                    yield found[1].partition("#")[0].strip()


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_one_that_the_parser_takes(command):
    assert parser().parse_args(shlex.split(command)).handler


def test_there_are_commands_to_look_at():
    assert len(list(commands())) >= 8


@pytest.mark.parametrize("path", sorted((ROOT / "tests/examples").glob("test_*.py")), ids=lambda path: path.name)
def test_the_examples_are_the_tests_that_run(path):
    shown = [block.strip() for language, block in BLOCKS if language == "python"]
    assert path.read_text(encoding="utf-8").strip() in shown


def test_every_script_and_file_that_is_named_is_there():
    named = set(re.findall(r"`((?:scripts|guests|tests|lab|kvmharness)/[\w./-]*\w)`", README))
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "kvmharness" / name).exists()]
    assert not missing
    assert len(named) >= 5


def test_the_map_shows_every_room():
    (house,) = [block for _, block in BLOCKS if "pytest_plugin.py" in block]
    rooms = {path.name for path in (ROOT / "kvmharness").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"(?<![\w/])(\w+)/", house)) - rooms <= {"kernels", "image", "machines", "inside"}
    assert not [room for room in rooms if f"{room}/" not in house]
