"""Facts and needs, on machines made of files."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kvmharness.errors import UsageError
from kvmharness.hosts.device import DeviceState
from kvmharness.hosts.facts import facts, summary
from kvmharness.hosts.needs import NEEDS, all_unmet, check_names, unmet
from tests.hostfiles import TOGETHER, HostFiles

ROOT = Path(__file__).resolve().parents[2]
CAP_PERFMON = 1 << 38  # include/uapi/linux/capability.h


@pytest.fixture
def machine(tmp_path):
    return HostFiles(tmp_path)


def read(machine):
    return facts(str(machine.root))


def lacks(machine, need):
    found = unmet(need, read(machine))
    assert found is not None, f"{need} is met"
    return found


def test_a_machine_that_has_everything(machine):
    found = read(machine)
    assert found.kernel_release == "6.1.0-13-amd64"
    assert (found.cpu_vendor, found.cpu_model, found.microcode) == ("GenuineIntel", "Xeon", "0x2b")
    assert found.mitigations == {"l1tf": "Mitigation: PTE Inversion; VMX: flush not necessary"}
    assert found.kvm.ok
    assert found.vmx
    assert not found.svm
    assert found.bare_metal
    assert found.root
    assert found.vendor_module == "kvm_intel"
    assert found.tracefs == "/sys/kernel/tracing"
    assert found.perf_event_paranoid == 2
    everything = set(NEEDS) - {"nested_svm", "npt", "no_ept", "emulated_vmx"}
    assert all_unmet(sorted(everything), found) == ()


def test_an_empty_machine_is_no_error(tmp_path):
    found = facts(str(tmp_path))
    assert found.kernel_release == ""
    assert found.kvm.errno == errno.ENOENT
    for need in NEEDS:
        unmet(need, found)


def test_json_round_trip_of_all_facts(machine):
    document = json.loads(json.dumps(read(machine).to_json()))
    assert document["cpu_flags"] == sorted([*TOGETHER.split(), "vmx"])
    assert document["kvm"]["state"] == "ok"
    assert document["module_parameters"]["kvm_intel.ept"] == "Y"


def test_a_summary_for_people(machine):
    machine.put("proc/cpuinfo", "model name\t: Xeon\nflags\t\t: fpu vmx\nvmx flags\t: ept pml mtf\n")
    said = []
    summary(said.append, root=str(machine.root))
    assert said == [
        {
            "kernel_release": "6.1.0-13-amd64",
            "cpu": "Xeon",
            "microcode": "unknown",
            "flags": ["vmx", "ept", "pml"],
            "module_parameters": {
                "kvm": {"tdp_mmu": "Y"},
                "kvm_intel": dict.fromkeys(
                    ["enable_shadow_vmcs", "ept", "nested", "pml", "unrestricted_guest", "vpid"], "Y"
                ),
            },
        }
    ]


def test_no_device(machine):
    machine.remove("dev/kvm")
    found = lacks(machine, "kvm")
    assert "missing" in found.reason
    assert "(errno 2)" in found.reason
    assert "modprobe kvm_intel" in found.fix
    assert found.way_out == "kvmharness run --host vmx"


def test_a_device_that_is_not_kvm(machine):
    machine.remove("dev/kvm")
    (machine.root / "dev/kvm").symlink_to("/dev/null")
    assert read(machine).kvm == DeviceState("error", errno.ENOTTY, str(machine.root / "dev/kvm"))


@pytest.mark.needs("kvm")
def test_the_real_device_is_asked_what_it_offers():
    found = facts()
    assert found.kvm.guest_features is not None
    assert found.kvm.guest_features <= {"vmx", "svm", "pcid", "invpcid"}
    assert found.kvm.guest_features <= found.cpu_flags


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else for a moment")
def test_no_permission(machine):
    (machine.root / "dev/kvm").chmod(0o600)
    for folder in (machine.root, *machine.root.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        found = read(machine)
    finally:
        os.seteuid(0)
    assert (found.kvm.state, found.kvm.errno) == ("no permission", errno.EACCES)
    reason = unmet("kvm", found)
    assert reason is not None
    assert "kvm $USER" in reason.fix


def test_nested_off(machine):
    machine.module("kvm_intel", nested="N")
    found = lacks(machine, "nested_vmx")
    assert found.reason == "/sys/module/kvm_intel/parameters/nested is N"
    assert "modprobe kvm_intel nested=Y" in found.fix
    assert str(found).endswith("or use an emulated host: kvmharness run --host vmx")
    assert lacks(machine, "nested").reason == found.reason


def test_nested_on_but_not_offered_to_guests(machine):
    found = replace(read(machine), kvm=DeviceState("ok", guest_features=frozenset({"pcid"})))
    reason = unmet("nested_vmx", found)
    assert reason is not None
    assert reason.reason == "KVM does not offer vmx to guests here"
    assert unmet("pcid", found) is None
    assert unmet("invpcid", found) is not None


def test_amd(machine):
    machine.amd()
    found = read(machine)
    assert found.vendor_module == "kvm_amd"
    assert all_unmet(("nested_svm", "nested", "npt", "tdp_mmu"), found) == ()
    assert all_unmet(("tdp", "tlb_tags"), found) == (), "NPT and ASIDs, where VMX has EPT and VPIDs"
    assert lacks(machine, "invept").reason == "INVEPT is an instruction of VMX, SVM has none"
    assert lacks(machine, "nested_vmx").reason == "the CPU (EPYC) does not offer vmx"
    assert lacks(machine, "ept").way_out == "kvmharness run --host vmx"


def test_amd_without_npt(machine):
    machine.amd()
    machine.module("kvm_amd", npt="N")
    assert lacks(machine, "tdp").reason == lacks(machine, "npt").reason == "/sys/module/kvm_amd/parameters/npt is N"
    assert unmet("tlb_tags", read(machine)) is None


def test_svm_is_had_from_the_emulated_svm_host(machine):
    assert lacks(machine, "nested_svm").way_out == lacks(machine, "npt").way_out == "kvmharness run --host svm"


def test_without_ept(machine):
    assert "ept=0" in lacks(machine, "no_ept").fix
    machine.module("kvm_intel", ept="N", vpid="0")
    assert unmet("no_ept", read(machine)) is None
    assert lacks(machine, "ept").reason == "/sys/module/kvm_intel/parameters/ept is N"
    assert lacks(machine, "tdp").reason == lacks(machine, "invept").reason == lacks(machine, "ept").reason
    assert lacks(machine, "tlb_tags").reason == lacks(machine, "vpid").reason
    assert lacks(machine, "vpid").reason == "/sys/module/kvm_intel/parameters/vpid is N"
    # The parameter still says Y, but kvm_mmu_init_tdp_mmu() wants EPT.
    assert lacks(machine, "tdp_mmu").reason == "/sys/module/kvm_intel/parameters/ept is N"


def test_no_ept_is_had_from_the_cpu_that_never_had_it(machine):
    assert lacks(machine, "no_ept").way_out == "kvmharness run --host vmx:penryn"


def test_a_hypervisor_below(machine):
    machine.cpu(f"{TOGETHER} vmx hypervisor")
    assert lacks(machine, "bare_metal").reason == "a hypervisor runs below this kernel"


def test_an_emulated_host_knows_that_it_is_one(machine):
    machine.put("proc/cmdline", "quiet kvmharness.lab=bochs-skylake panic=1")
    found = read(machine)
    assert found.emulated == "bochs-skylake"
    assert not found.bare_metal
    machine.module("kvm_intel", nested="N")
    assert lacks(machine, "nested_vmx").way_out == "", "there is no emulated host inside an emulated host"
    assert "itself" in lacks(machine, "emulated_vmx").reason


class TestTracing:
    def test_paranoid_counts_only_without_the_capability(self, machine):
        machine.user(uid=1000)
        assert lacks(machine, "perf").reason == "kernel.perf_event_paranoid is 2 and the process lacks CAP_PERFMON"
        machine.user(uid=1000, capabilities=CAP_PERFMON)
        assert all_unmet(("perf", "kprobes"), read(machine)) == ()
        machine.user(uid=1000)
        machine.put("proc/sys/kernel/perf_event_paranoid", "1")
        assert unmet("perf", read(machine)) is None
        assert lacks(machine, "kprobes").reason == "counting a kernel function takes CAP_PERFMON"

    def test_no_perf_events(self, machine):
        machine.remove("proc/sys/kernel/perf_event_paranoid")
        assert "CONFIG_PERF_EVENTS" in lacks(machine, "perf").reason
        assert read(machine).perf_event_paranoid is None

    def test_tracefs_not_mounted(self, machine):
        machine.remove("sys/kernel/tracing")
        assert "mount -t tracefs" in lacks(machine, "perf").fix
        assert unmet("kprobes", read(machine)) is None, "a kprobe event needs no tracefs"

    def test_tracefs_below_debugfs(self, machine):
        machine.remove("sys/kernel/tracing")
        machine.put("sys/kernel/debug/tracing/events/kvm/kvm_exit/id", "7")
        assert read(machine).tracefs == "/sys/kernel/debug/tracing"
        assert unmet("perf", read(machine)) is None

    def test_kernel_without_tracefs(self, machine):
        machine.remove("sys/kernel/tracing")
        machine.put("proc/filesystems", "nodev\tsysfs")
        assert "CONFIG_TRACING" in lacks(machine, "perf").reason

    def test_kvm_not_loaded(self, machine):
        machine.remove("sys/kernel/tracing/events/kvm")
        assert "kvm_exit/id cannot be read" in lacks(machine, "perf").reason

    def test_no_kprobe_events(self, machine):
        machine.remove("sys/bus/event_source/devices/kprobe")
        assert "CONFIG_KPROBE_EVENTS" in lacks(machine, "kprobes").reason


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("kernel>=6.1", True),
        ("kernel>=6.2", False),
        ("kernel>=5.19", True),
        ("kernel<6.1", False),
        ("kernel<6.10", True),
        ("kernel==6.1", True),
        ("kernel>6.1", False),
        ("kernel<=6.1.0", True),
    ],
)
def test_kernel_versions_are_numbers(machine, condition, met):
    assert (unmet(condition, read(machine)) is None) == met


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("kvm.tdp_mmu=Y", None),
        ("kvm.tdp_mmu=1", None),
        ("kvm.tdp_mmu=N", "/sys/module/kvm/parameters/tdp_mmu is Y"),
        ("kvm.nix=1", "there is no /sys/module/kvm/parameters/nix"),
    ],
)
def test_parameter_conditions(machine, condition, reason):
    found = unmet(condition, read(machine))
    assert (found and found.reason) == reason


@pytest.mark.parametrize("name", ["nested_vxm", "", "kernel>=", "kernel>=six", "kernl>=6.1", "kvm.=Y", "a.b.c=1", "=Y"])
def test_a_misspelt_need_is_refused(machine, name):
    with pytest.raises(UsageError) as caught:
        unmet(name, read(machine))
    assert name in str(caught.value)
    with pytest.raises(UsageError):
        check_names([name])


def test_a_misspelt_need_is_corrected():
    with pytest.raises(UsageError, match="did you mean nested_vmx"):
        check_names(["nested_vxm"])


def test_this_machine_gives_facts_at_all():
    found = facts()
    assert found.kernel_release == os.uname().release
    assert found.root == (os.geteuid() == 0)


def test_the_facts_are_cheap_to_import():
    """They are loaded in an emulator, where each module of the standard library is felt."""
    script = "import sys; before = set(sys.modules); import kvmharness.hosts; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    costly = {"argparse", "dataclasses", "hashlib", "inspect", "logging", "shutil", "subprocess"}
    assert not costly & set(done.stdout.split())
