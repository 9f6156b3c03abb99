"""A host that nobody has: what a skylake in the lab says of itself, as far as planning wants to know."""

from kvmharness.abi.binding import ffi
from kvmharness.cells.surroundings import Surroundings
from kvmharness.hosts.device import DeviceState
from kvmharness.hosts.facts import HostFacts
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.kvm.lists import CpuidEntry, pack_cpuid
from tests.x86.capabilities import SKYLAKE

VMX, PCID = 1 << 5, 1 << 17  # of CPUID leaf 1, ECX


def skylake(emulated="vmx:skylake", **parameters):
    """Surroundings; parameters of kvm_intel and kvm as in ``ept="N"``."""
    loaded = {"kvm.tdp_mmu": "Y", "kvm_intel.nested": "Y", "kvm_intel.ept": "Y", "kvm_intel.vpid": "Y"}
    for name, value in parameters.items():
        loaded[f"kvm_intel.{name}" if f"kvm_intel.{name}" in loaded else f"kvm.{name}"] = value
    table = pack_cpuid([CpuidEntry(1, 0, 0, 0, 0, VMX | PCID, 0)])
    facts = HostFacts(
        kernel_release="6.1.192",
        cpu_vendor="GenuineIntel",
        cpu_model="A processor",
        cpu_flags=frozenset({"vmx", "pcid"}),
        microcode="0x1",
        mitigations={},
        kvm=DeviceState("ok", 0, "/dev/kvm", frozenset({"vmx", "pcid"})),
        module_parameters=loaded,
        tracefs="/sys/kernel/tracing",
        tracing_why_not="",
        kprobes_why_not="",
        perf_event_paranoid=2,
        root=True,
        may_trace=True,
        emulated=emulated,
    )
    offered = Capabilities(
        bytes(ffi.buffer(table))[ffi.sizeof("struct kvm_cpuid2") :],
        SKYLAKE,
        bytes(ffi.sizeof("struct kvm_sregs")),
        bytes(ffi.sizeof("struct kvm_regs")),
    )
    return Surroundings(facts, offered)
