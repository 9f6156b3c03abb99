"""What is left of a run that is cut short, as a user finds it."""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cli.keeping import earlier, kept
from kvmharness.cli.main import main
from kvmharness.cli.output import Output
from kvmharness.cli.reports import Reports
from kvmharness.errors import UsageError
from kvmharness.results.store import load, save
from tests.builders import record


def reports(name=None):
    return Reports(name, {}, False)


def cut_short(name=None):
    """A run that is interrupted behind its first result; gives its journal."""
    made = record([Cell(Setup.NO_EPT, 1, 1)], turns=1)
    journals = []

    def interrupted():
        with kept(reports(name), (), Output()) as keeping:
            journals.append(keeping.journal)
            keeping.journal.begin(replace(made, results=()))
            keeping.journal.add(made.results[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    return journals[0].path


def test_beside_the_record_that_is_asked_for(tmp_path, capsys):
    name = str(tmp_path / "r.json")
    assert str(cut_short(name)) == f"{name}.part"
    assert (load(f"{name}.part").partial, len(load(f"{name}.part").results)) == ("the run was cut short", 1)
    assert f"{name}.part; --resume {name}.part goes on" in capsys.readouterr().err


def test_a_run_that_goes_to_its_end_leaves_nothing(tmp_path):
    with kept(reports(str(tmp_path / "r.json")), (), Output()) as keeping:
        keeping.journal.begin(record([Cell(Setup.NO_EPT, 1, 1)]))
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_it_is_in_the_cache_and_old_ones_go(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(12):
        path = cut_short()
        path.rename(path.with_name(f"2020-{number:02}.part"))
    assert len(list((tmp_path / "kvmharness" / "runs").iterdir())) <= 9


def test_the_record_of_a_whole_run_is_not_resumed(tmp_path):
    save(record([Cell(Setup.NO_EPT, 1, 1)]), tmp_path / "r.json")
    with pytest.raises(UsageError, match="the record of a whole run"):
        earlier(argparse.Namespace(resume=[str(tmp_path / "r.json")]))


@pytest.mark.parametrize("verb", [["run"], ["validate", "fast-cr3-switch"]])
def test_what_is_no_record_is_refused_at_once(verb, tmp_path, capsys):
    (tmp_path / "x").write_text('{"journal": ')
    assert main([*verb, "--resume", str(tmp_path / "x")]) == 2
    assert f"cannot read record {tmp_path / 'x'}" in capsys.readouterr().err


def test_a_record_of_another_host_is_refused(tmp_path, capsys):
    cut_short(str(tmp_path / "r"))
    hosts = ["--host", "vmx", "--host", "vmx:penryn"]
    assert main(["validate", "fast-cr3-switch", *hosts, "--resume", str(tmp_path / "r.part")]) == 2
    assert "--resume: a record is of a host without a name" in capsys.readouterr().err


def test_each_host_goes_on_with_its_own_record():
    records = [replace(record([]), host={"name": name}) for name in ("vmx", "svm")]
    for number, name in enumerate(("vmx", "svm")):
        with kept(reports(None), records, Output(), name) as keeping:
            assert (keeping.earlier, keeping.host) == (records[number], name)
    with kept(reports(None), records, Output(), "vmx:penryn") as keeping:
        assert keeping.earlier is None


@pytest.mark.slow
@pytest.mark.kvm
def test_after_sigkill_what_was_measured_is_there_and_the_run_goes_on(tmp_path):
    name = tmp_path / "r.json"
    command = [sys.executable, "-m", "kvmharness", "run", "d", "--turns", "40", "--json", str(name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = tmp_path / "r.json.part"
    while not part.exists() or part.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = load(part)
    assert before.partial
    assert not name.exists()
    done = subprocess.run([*command, "--resume", str(part)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    after = load(name)
    assert after.results[: len(before.results)] == before.results
    assert len(after.results) > len(before.results)
    assert not part.exists()
