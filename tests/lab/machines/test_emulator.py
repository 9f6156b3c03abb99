"""Emulated hosts without booting one: the emulators of the catalogue, and one that is added by a class and a row."""

import json
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from kvmharness.cli.main import main
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.lab.job import Job
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.machines import emulator
from kvmharness.lab.machines.bochs import Bochs
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.lab.machines.qemu import Qemu
from kvmharness.system.programs import MissingToolError
from tests.lab.machines import throwaway

NOWHERE = Kernel(Path("/boot/bzImage"), Path("/modules"))


@pytest.mark.parametrize("host", catalogue.HOSTS, ids=lambda host: host.name)
def test_every_row_has_its_machine(host):
    assert isinstance(emulated_host(host.name, NOWHERE), Bochs if host.vendor == "vmx" else Qemu)


def test_an_unknown_host_is_refused_before_a_kernel_is_built():
    with pytest.raises(UsageError, match="'vmx:z80'"):
        emulated_host("vmx:z80")


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("vmx:skylake", "kvmharness.lab=vmx:skylake tsc_early_khz=50000 clearcpuid=xsavec,xsaves"),
        ("vmx:penryn", "kvmharness.lab=vmx:penryn tsc_early_khz=50000"),
        ("svm", "kvmharness.lab=svm:epyc tsc_early_khz=50000"),
    ],
)
def test_what_a_kernel_is_booted_with(host, line, monkeypatch, tmp_path):
    lines = []
    monkeypatch.setattr("kvmharness.lab.machines.bochs.write_iso", lambda *given: lines.append(given[-1]))
    monkeypatch.setattr("kvmharness.lab.machines.bochs.find", lambda name: f"/there/{name}")
    command = emulated_host(host, NOWHERE).command(tmp_path)
    lines += [command[command.index("-append") + 1]] if "-append" in command else []
    (found,) = lines
    assert found == f"{emulator.COMMAND_LINE} {line}"


@pytest.mark.parametrize(("host", "package"), [("vmx", "bochs"), ("svm", "qemu-system-x86")])
def test_a_missing_emulator_is_named_with_its_package(host, package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as caught:
        emulated_host(host, NOWHERE).run(Job(steps=({"do": "unload"},)), lambda event: None)
    assert package in caught.value.hint.split()
    assert caught.value.hint.startswith("sudo apt-get install")


@pytest.fixture
def thrown(monkeypatch, tmp_path):
    """The catalogue with one row more, and a kernel for it."""
    monkeypatch.setattr(catalogue, "HOSTS", (*catalogue.HOSTS, throwaway.ROW))
    # Base image and modules are no part of what is tried here.
    monkeypatch.setattr(emulator, "write_initramfs", lambda target, parts, job: target.write_text(job.nonce))
    image = bytearray(0x300)
    image[0x202:0x206] = b"HdrS"  # Documentation/x86/boot.rst: the header's magic and where the version stands
    image[0x20E:0x210] = (0x90).to_bytes(2, "little")
    image[0x290:0x29A] = b"6.1.0 (me)"
    (tmp_path / "bzImage").write_bytes(image)
    monkeypatch.setattr(KernelChoice, "get", lambda choice, progress, recipe: Kernel(tmp_path / "bzImage", tmp_path))
    return tmp_path / "bzImage"


def test_an_emulator_is_a_class_and_a_row(thrown, capsys):
    assert main(["lab", "boot", "--host", "vmx:throwaway", "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cmdline"] == [*emulator.COMMAND_LINE.split(), "kvmharness.lab=vmx:throwaway", "its=own", "row=1"]
    assert said["kernel"] == str(thrown)
    assert len(bytes.fromhex(said["image"])) >= 8
    assert said["emulator"] == f"Pretender {platform.python_version()} a486"


def test_what_another_run_said_is_not_of_this_one(thrown, capsys, monkeypatch):
    row = replace(throwaway.ROW, command_line="stale")
    monkeypatch.setattr(catalogue, "HOSTS", (*catalogue.HOSTS[:-1], row))
    assert main(["lab", "boot", "--host", "vmx:throwaway", "-q"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello of another run; the agent had not started" in err


def test_its_end_is_told_under_its_name(thrown, capsys, monkeypatch):
    row = replace(throwaway.ROW, command_line="die")
    monkeypatch.setattr(catalogue, "HOSTS", (*catalogue.HOSTS[:-1], row))
    assert main(["lab", "boot", "--host", "vmx:throwaway", "-q"]) == 5
    said = capsys.readouterr().err
    assert "the emulated host (Pretender, throwaway): the kernel panicked: thrown away" in said
    assert "  | Kernel panic - not syncing: thrown away" in said


def test_who_asks_for_hosts_knows_it(thrown, capsys):
    for verb in (["run"], ["validate"], ["bisect"], ["lab", "exec"]):
        assert main([*verb, "--help"]) == 0
        assert "throwaway" in capsys.readouterr().out
