"""doctor, on machines made of files."""

import json

import pytest

from kvmharness.cli import doctor
from kvmharness.cli.main import main
from kvmharness.cli.output import Output
from kvmharness.hosts.facts import facts
from kvmharness.hosts.needs import NEEDS
from kvmharness.measure.spoilers import findings, snapshot
from tests.hostfiles import HostFiles


@pytest.fixture
def machine(tmp_path):
    return HostFiles(tmp_path)


def shown(machine):
    return doctor.lines(doctor.diagnosis(facts(str(machine.root))), Output())


def test_a_machine_that_can_nest(machine):
    text = "\n".join(shown(machine))
    assert "kernel      6.1.0-13-amd64" in text
    assert "no hypervisor below" in text
    assert "driven by kvm_intel" in text
    assert "kvm_intel.nested=Y" in text
    assert "  yes  nested_vmx    guests get VMX" in text
    assert "  yes  the whole matrix, on this host             kvmharness run" in text


def test_what_may_spoil_figures(machine):
    machine.put("sys/devices/system/cpu/cpufreq/boost", "1")
    found = doctor.diagnosis(facts(str(machine.root)), findings(snapshot((0,), str(machine.root))))
    lines = doctor.lines(found, Output())
    at = lines.index(
        "  turbo: on; the core's clock depends on its temperature and on what the other cores do",
    )
    assert lines[at + 1].strip() == "-> echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
    assert [each["name"] for each in found["spoilers"]] == ["turbo", "mitigations"]
    assert "  nothing that is known" in shown(machine)


def test_what_is_missing_comes_with_its_fix(machine):
    machine.module("kvm_intel", nested="0")
    lines = shown(machine)
    at = lines.index("  no   nested_vmx    /sys/module/kvm_intel/parameters/nested is N")
    fixes = [line.strip() for line in lines[at + 1 : at + 3]]
    assert fixes == [
        "-> with no VM running: sudo modprobe -r kvm_intel && sudo modprobe kvm_intel nested=Y",
        "-> kvmharness run --host vmx",
    ]
    assert "  no   the whole matrix, on this host" in lines


def test_missing_tools_name_their_packages(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "\n".join(shown(machine))
    assert "no   Bochs (vmx)   lacks bochs" in text
    assert "-> sudo apt-get install bochs xorriso busybox-static lz4 binutils" in text
    assert "no   the whole matrix, in an emulated VMX host" in text


def test_missing_python_packages_are_told_by_extra(machine, monkeypatch):
    asked = [
        "cffi>=1",
        "pytest>=8; extra == 'pytest'",
        "no-such-thing>=2; extra == 'report'",
        "nor-this; extra == 'all'",
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    text = "\n".join(shown(machine))
    assert "no   Python extra  report: lacks no-such-thing" in text
    assert "-> pip install 'kvmharness[report]'" in text
    assert "nor-this" not in text


def test_json_has_every_need(capsys):
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document["needs"]) == set(NEEDS)
    runs = document["runs"]
    assert code == (0 if runs["nested"] or runs["emulated_vmx"] else 4)
    for need in document["needs"].values():
        assert need["met"] or need["reason"]


def test_a_host_where_nothing_nested_can_run_is_a_skip(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "facts", lambda: facts(str(tmp_path)))
    assert main(["doctor"]) == 4
    assert "missing (errno 2)" in capsys.readouterr().out


def test_no_colour_in_a_pipe(capsys):
    main(["doctor"])
    assert "\x1b" not in capsys.readouterr().out
