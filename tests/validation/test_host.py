"""Hosts as values: what a text resolves to, and what each kind of host answers."""

import sys
from pathlib import Path

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.kernels.source import debian
from kvmharness.oracle import oracles
from kvmharness.results.record import Record, VariantId, When
from kvmharness.validation import campaign
from kvmharness.validation.host import Emulated, ThisMachine, emulated, resolve
from kvmharness.validation.hostbase import RunRequest
from tests.hostfiles import HostFiles

CELLS = (Cell(Setup.L1_ALONE, 1, guest_cr3s=0),)
BZIMAGE = KernelChoice(kernel=Path("/boot/bzImage"), modules=Path("/modules"))


def test_this_machine():
    assert resolve("local") == ThisMachine()
    assert (resolve("local").turns, resolve("local").plan.warmup, resolve("local").plan.timeout_s) == (4, 64, 60.0)
    with pytest.raises(UsageError, match="no host is called 'local'"):
        emulated("local")


@pytest.mark.parametrize(
    ("text", "name", "module"),
    [
        ("vmx", "vmx:skylake", "kvm_intel"),
        ("vmx:penryn", "vmx:penryn", "kvm_intel"),
        ("svm", "svm:epyc", "kvm_amd"),
        ("svm:epyc-nonpt", "svm:epyc-nonpt", "kvm_amd"),
    ],
)
def test_an_emulated_host(text, name, module):
    host = resolve(text)
    assert isinstance(host, Emulated)
    assert (host.entry.name, host.vendor_module) == (name, module)
    assert (host.turns, host.plan.warmup, host.plan.timeout_s) == (1, 32, 3.0)
    assert emulated(text) == host


@pytest.mark.parametrize("text", ["", "vmx:", "Local", "486"])
def test_no_host(text):
    with pytest.raises(UsageError, match=f"no host is called '{text}'") as caught:
        resolve(text)
    assert "vmx or vmx:CPU" in caught.value.hint


@pytest.mark.parametrize(("amd", "module"), [(False, "kvm_intel"), (True, "kvm_amd")])
def test_this_machines_vendor(amd, module, tmp_path, monkeypatch):
    machine = HostFiles(tmp_path)
    if amd:
        machine.amd()
    facts = sys.modules["kvmharness.hosts.facts"]
    found = facts.facts(str(tmp_path))
    monkeypatch.setattr(facts, "facts", lambda: found)
    assert ThisMachine().vendor_module == module


@pytest.mark.parametrize(
    ("kernel", "params"),
    [(BZIMAGE, {}), (KernelChoice(source=Path("/usr/src/linux")), {}), (KernelChoice(), {"kvm.tdp_mmu": "N"})],
)
def test_what_only_an_emulated_host_lets_one_choose(kernel, params):
    emulated("svm").check(kernel, params)
    with pytest.raises(UsageError, match="this machine runs what it runs") as caught:
        ThisMachine().check(kernel, params)
    assert "Add --host vmx," in caught.value.hint


def test_this_machine_runs_what_is_not_chosen():
    ThisMachine().check(KernelChoice(), {})


def test_modules_are_replaced_only_where_that_is_allowed(tmp_path):
    with pytest.raises(UsageError, match="replaces KVM's modules"):
        ThisMachine().base(tmp_path, may_reload=False)
    with pytest.raises(UsageError, match="--host local needs --source"):
        ThisMachine().base(None, may_reload=True)
    with pytest.raises(UsageError, match="is not a built kernel tree"):
        ThisMachine().base(tmp_path, may_reload=True)


def test_what_variants_are_made_from_in_an_emulated_host(tmp_path):
    (tmp_path / "arch/x86/kvm").mkdir(parents=True)
    (tmp_path / "Kconfig").touch()
    assert emulated("vmx").base(tmp_path, may_reload=False).path == tmp_path
    with pytest.raises(UsageError, match="neither a Linux source tree"):
        emulated("vmx").base(tmp_path / "nix", may_reload=False)


@pytest.mark.needs("emulated_vmx")
def test_without_a_source_it_is_debians():
    assert emulated("vmx").base(None, may_reload=False) == debian()


def request(**given):
    plan = resolve("local").plan
    more = {"turns": 3, "kernel": KernelChoice(), "has": None, "command": ("kvmharness", "run")}
    return RunRequest(**{"cells": CELLS, "plan": plan, **more, **given})


class Listener:
    """A task that remembers its steps."""

    def __init__(self):
        self.steps = []

    def step(self, message, done=None, total=None):
        self.steps.append((message, done, total))

    def tick(self, message):
        pass


def test_what_this_machine_lacks_comes_with_the_emulated_host(monkeypatch):
    def lacking(*arguments, **more):
        raise HostRequirementError("no /dev/kvm", "load kvm")

    monkeypatch.setattr(campaign, "run_here", lacking)
    with pytest.raises(HostRequirementError, match="no /dev/kvm") as caught:
        ThisMachine().run(request(), lambda *result: None, Listener())
    assert caught.value.hint == "load kvm; or use an emulated host: kvmharness run --host vmx"


def test_a_run_in_an_emulated_host(monkeypatch):
    class Pretended:
        description = "Pretender 1"

    kernel = Kernel(Path("/boot/bzImage"), Path("/modules"), config_hash="abc", source="linux-6.1")
    monkeypatch.setattr(Kernel, "release", "6.1.192")
    monkeypatch.setattr(KernelChoice, "get", lambda choice, progress, recipe: kernel)
    monkeypatch.setattr(Emulated, "machine", lambda host, booted: Pretended())
    seen = {}

    def run_in(machine, variants, order, cells, plan, *, command, on_result, keeping):
        seen.update(variants=variants, order=order, cells=cells, command=command)
        return Record("1", command, When("", 0.0), {}, "cycles", (), ())

    monkeypatch.setattr(campaign, "run_in", run_in)
    task = Listener()
    emulated("svm").run(request(), lambda *result: None, task)
    variant = VariantId("host", "linux-6.1", config_hash="abc", oracle=oracles.told(oracles.DEFAULT, None))
    assert seen["variants"] == (campaign.Variant(variant, Path("/modules")),)
    assert (seen["order"], seen["cells"], seen["command"]) == (("host",) * 3, CELLS, ("kvmharness", "run"))
    assert task.steps == [("booting 6.1.192 in Pretender 1", 0, 1)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kernel": Path("/boot/x")}, "belong together"),
        ({"modules": Path("/boot")}, "belong together"),
        ({"kernel": Path("/boot/x"), "modules": Path("/boot"), "source": Path("/x")}, "Name one of them"),
    ],
)
def test_kernels_that_contradict_each_other(given, says):
    with pytest.raises(UsageError) as caught:
        KernelChoice(**given)
    assert says in f"{caught.value} {caught.value.hint}"
