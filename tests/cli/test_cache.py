"""cache: what is listed, what is removed, and what is not."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvmharness
from kvmharness.cli.cache import WHAT
from kvmharness.cli.main import main
from kvmharness.system import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for kind, key in (("kernels", "one"), ("kernels", "two"), ("variants", "three"), ("runs", "four")):
        cache.folder_entry(kind, key, lambda place: (place / "content").write_bytes(bytes(3 << 20)))
    return tmp_path / "kvmharness"


def test_kinds_are_listed_with_entries_sizes_and_last_use(capsys):
    assert main(["cache"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == ["kind", "kernels", "runs", "variants", "all"]
    assert rows["kernels"].split()[1:6] == ["2", "6.3", "MB", "just", "now"]
    assert rows["kernels"].endswith(WHAT["kernels"])
    assert rows["all"].split()[1:3] == ["4", "12.6"]


def test_pruning_without_a_kind_leaves_results(folder, capsys):
    assert main(["cache", "--prune"]) == 0
    assert [path.name for path in sorted(folder.glob("*/[!.]*"))] == ["four"]
    assert "removed 9." in capsys.readouterr().err
    assert main(["cache", "--prune", "runs"]) == 0
    assert not list(folder.glob("*/*"))


def test_pruning_a_kind_leaves_the_others(folder):
    assert main(["cache", "--prune", "kernels"]) == 0
    assert [path.name for path in sorted(folder.glob("*/[!.]*"))] == ["four", "three"]


def test_a_kind_that_there_is_not_is_a_usage_error(folder, capsys):
    assert main(["cache", "--prune", "../..", "kernels"]) == 2
    assert "no such kind of entries: ../.." in capsys.readouterr().err
    assert (folder / "kernels/one").exists()


@pytest.mark.slow
def test_what_a_living_process_uses_is_kept_and_said_so(folder, capsys):
    code = (
        "import time; from kvmharness.system import cache;"
        "cache.folder_entry('kernels', 'one', print); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline()
        assert main(["cache", "--prune", "--json"]) == 0
        other.kill()
    document = json.loads(capsys.readouterr().out)
    assert document["in_use"] == ["kernels/one"]
    assert [entry["key"] for entry in document["kinds"]["kernels"]] == ["one"]
    assert document["kinds"]["variants"] == []


def test_every_kind_has_its_words():
    """Each kind that the package names is explained in the listing."""
    from kvmharness.lab.machines.snapshot.kept import KIND

    named = {KIND} | named_with("file_entry", "folder_entry", "keep_newest")
    assert named <= set(WHAT)
    assert len(named) > 8


def named_with(*functions):
    """The kinds that calls of these functions name in the package."""
    texts = [path.read_text() for path in Path(kvmharness.__file__).parent.rglob("*.py")]
    return {kind for text in texts for kind in re.findall(rf'\b(?:{"|".join(functions)})\("(\w+)"', text)}


def test_every_kind_is_bounded():
    made = named_with("file_entry", "folder_entry", "folder")
    assert {"sources", "selftests", "kernels", "runs"} <= made
    assert made <= named_with("keep_newest")


ROLES = {
    "make": "cache.folder_entry('sources', key, fill); cache.keep_newest('sources', 4)",
    "find": "cache.found('sources', key)",
    "list": "cache.entries('sources')",
    "prune": "[cache.remove('sources', entry.key) for entry in cache.entries('sources')]",
    "tidy": "cache.remove_leftovers()",
}


@pytest.mark.slow
def test_what_others_prune_at_the_same_moment_is_no_error(folder):
    script = """
import random, time
from kvmharness.system import cache
def fill(folder):
    for number in range(300):
        (folder / str(number)).write_text("x")
end = time.monotonic() + 4
while time.monotonic() < end:
    key = str(random.randrange(12))
    """
    command = [sys.executable, "-c"]
    running = [subprocess.Popen([*command, script + ROLES[role]], stderr=subprocess.PIPE) for role in (*ROLES, *ROLES)]
    said = [process.communicate()[1].decode() for process in running]
    assert said == [""] * len(said)
    assert main(["cache"]) == 0
    assert not list(folder.glob("sources/.*"))
