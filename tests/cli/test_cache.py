"""cache: what is listed, what is removed, and what is not."""

import json
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

    named = {KIND}
    for path in Path(kvmharness.__file__).parent.rglob("*.py"):
        for call in ('file_entry("', 'folder_entry("', 'keep_newest("'):
            named |= {part.partition('"')[0] for part in path.read_text().split(call)[1:]}
    assert named <= set(WHAT)
    assert len(named) > 8
