"""Taking modules out and putting them back, on a made-up /sys with made-up insmod, rmmod and modprobe."""

import json
import os

import pytest

from kvmharness.errors import HostRequirementError, LostMachineError
from kvmharness.lab.inside import modules
from kvmharness.lab.inside.modules import ModuleError, insertions
from kvmharness.lab.machines import ownmodules, thishost
from kvmharness.lab.machines.ownmodules import OwnModules
from kvmharness.lab.machines.thishost import ThisHost, borrowed_modules, recover
from kvmharness.system.programs import MissingToolError

DEFAULTS = {"irqbypass": {}, "kvm": {"tdp_mmu": "Y"}, "kvm_intel": {"nested": "Y", "vpid": "Y"}}


class MadeUp:
    """A kernel's modules, as files, and the programs that change them."""

    def __init__(self, root):
        self.root = root
        self.commands = []
        self.broken = ()

    def add(self, name, **parameters):
        folder = self.root / name
        (folder / "parameters").mkdir(parents=True)
        (folder / "holders").mkdir()
        (folder / "refcnt").write_text("0\n")
        for key, value in {**DEFAULTS.get(name, {}), **parameters}.items():
            (folder / "parameters" / key).write_text(f"{value}\n")

    def use(self, name, users=1, by=()):
        (self.root / name / "refcnt").write_text(f"{users}\n")
        for holder in by:
            (self.root / name / "holders" / holder).mkdir()

    def run(self, *command):
        self.commands.append(" ".join(command))
        if any(word in self.broken for word in command):
            raise ModuleError(f"{' '.join(command)}: does not work")
        program, name, *options = command
        if program == "rmmod":
            (self.root / name).rename(self.root.parent / f"gone-{len(self.commands)}")
        elif not (self.root / modules.module_name(name)).exists():
            self.add(modules.module_name(name), **dict(option.split("=") for option in options))


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(ownmodules, "find", lambda program: program)
    monkeypatch.setattr(modules, "vendor_module", lambda: "kvm_intel")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = MadeUp(tmp_path / "module")
    made.add("irqbypass")
    made.add("kvm", tdp_mmu="N")
    made.add("kvm_intel")
    made.use("kvm", 1, by=["kvm_intel"])
    return made


@pytest.fixture
def own(host):
    return OwnModules(host.root, host.run)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.json"


def write(journal, pid, started):
    saved = {"irqbypass": {}, "kvm": {"tdp_mmu": "N"}, "kvm_intel": {"nested": "Y", "vpid": "Y"}}
    journal.write_text(json.dumps({"pid": pid, "started": started, "modules": saved}))


def test_what_is_loaded(own):
    assert own.loaded() == {"irqbypass": {}, "kvm": {"tdp_mmu": "N"}, "kvm_intel": {"nested": "Y", "vpid": "Y"}}
    own.check_idle()


def test_parameters_are_given_only_where_they_would_be_others(host, own):
    own.restore(own.loaded())
    again = ["rmmod kvm_intel", "rmmod kvm"]
    assert host.commands == [
        *again,
        "modprobe irqbypass",
        "modprobe kvm",
        "modprobe kvm_intel",
        *again,
        "modprobe irqbypass",
        "modprobe kvm tdp_mmu=N",
        "modprobe kvm_intel",
    ]


def test_a_parameter_that_does_not_take_its_old_value_is_named(host, own):
    saved = own.loaded()
    saved["kvm"]["mystery"] = "1"
    host.run = lambda *command: MadeUp.run(host, *(word for word in command if "mystery" not in word))
    with pytest.raises(ModuleError, match=r"not with kvm\.mystery=1"):
        OwnModules(host.root, host.run).restore(saved)


def test_what_a_variant_brought_along_goes_again(host, own):
    own.restore({})
    assert own.loaded() == {}
    assert host.commands[-1] == "rmmod irqbypass"


def test_a_running_vm_is_respected(host, own):
    host.use("kvm_intel", 3)
    with pytest.raises(HostRequirementError, match=r"kvm_intel is in use \(3 users\): a VM is running"):
        own.check_idle()


def test_another_user_of_kvm_is_named(host, own):
    host.use("kvm", 2, by=["kvmgt"])
    with pytest.raises(HostRequirementError, match=r"kvm is in use \(1 users\): kvmgt") as caught:
        own.check_idle()
    assert caught.value.hint == "Take out kvmgt first."


def test_kvm_that_is_no_module_is_refused(host, own):
    (host.root / "kvm/refcnt").unlink()
    with pytest.raises(HostRequirementError, match="kvm is built into this kernel"):
        own.check_idle()


def test_without_the_programs_nothing_is_begun(own, monkeypatch):
    def missing(program):
        raise MissingToolError(program)

    monkeypatch.setattr(ownmodules, "find", missing)
    with pytest.raises(MissingToolError, match="insmod is not installed"):
        own.check_idle()


@pytest.mark.parametrize(
    ("files", "params", "says"),
    [
        (["kvm.ko", "kvm-amd.ko"], {}, "does not hold kvm_intel"),
        (["kvm.ko", "kvm-intel.ko"], {"vfio.x": "1"}, "given for vfio, which"),
    ],
)
def test_what_cannot_be_inserted(host, files, params, says):
    with pytest.raises(ModuleError, match=says):
        insertions(files, params)


def test_options_go_to_their_module(host):
    files = ["/x/irqbypass.ko", "/x/kvm.ko.xz", "/x/kvm-intel.ko", "/x/kvm-amd.ko"]
    assert insertions(files, {"kvm.tdp_mmu": "N", "kvm-intel.vpid": "0", "kvm_amd.npt": "0"}) == [
        ("irqbypass", "/x/irqbypass.ko", []),
        ("kvm", "/x/kvm.ko.xz", ["tdp_mmu=N"]),
        ("kvm_intel", "/x/kvm-intel.ko", ["nested=1", "vpid=0"]),
    ]


def test_the_journal_is_there_before_anything_is_touched(host, own, journal):
    with borrowed_modules(journal, own):
        assert host.commands == []
        assert json.loads(journal.read_text())["modules"] == own.loaded()
    assert not journal.exists()


def test_no_journal(host, own, journal):
    assert recover(journal, own) is False
    assert host.commands == []


@pytest.mark.parametrize(
    "text",
    ["", '{"pid": 1, "mod', "[]", "{}", '{"pid": "me", "started": "", "modules": {}}', '{"pid": null}', "\0\xff"],
)
def test_a_journal_that_cannot_be_read(host, own, journal, text):
    journal.write_text(text, encoding="latin-1")
    with pytest.raises(LostMachineError, match=r"journal\.json says .* not readable") as caught:
        recover(journal, own)
    assert caught.value.hint == f"Load the modules by hand, then delete {journal}."
    assert host.commands == []


def test_a_run_that_is_alive_keeps_the_modules(host, own, journal):
    parent = os.getppid()
    write(journal, parent, thishost._started(parent))
    with pytest.raises(HostRequirementError, match=f"process {parent} is using KVM's modules"):
        recover(journal, own)
    assert host.commands == []
    assert journal.exists()


def test_another_process_by_the_same_number_does_not(host, own, journal):
    write(journal, os.getppid(), "1")
    assert recover(journal, own) is True
    assert not journal.exists()


def test_putting_back_needs_root(host, own, journal, monkeypatch):
    write(journal, 0, "1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostRequirementError, match="needs root"):
        recover(journal, own)
    assert host.commands == []


def test_what_cannot_be_put_back_is_told_with_the_way_by_hand(host, own, journal):
    host.broken = ("modprobe",)
    says = "could not be put back: modprobe irqbypass: does not work"
    with pytest.raises(LostMachineError, match=says) as caught, borrowed_modules(journal, own):
        pass
    assert "modprobe -r kvm_intel kvm_amd kvm && modprobe kvm && modprobe kvm_intel" in caught.value.hint
    assert str(journal) in caught.value.hint
    host.broken = ()
    assert recover(journal, own) is True
    assert own.loaded()["kvm"] == {"tdp_mmu": "N"}


def test_the_tool_itself_must_be_roots(host, own, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostRequirementError, match="needs root"):
        ThisHost(modules=own)


def test_a_processor_without_vmx_or_svm(own, monkeypatch):
    def none():
        raise ModuleError("this CPU has neither VMX nor SVM")

    monkeypatch.setattr(thishost, "vendor_module", none)
    with pytest.raises(HostRequirementError, match="neither VMX nor SVM"):
        ThisHost(modules=own)
