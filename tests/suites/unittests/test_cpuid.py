"""The CPUID of a test's vCPUs, from what the local KVM supports. Positions as in SDM vol. 2A, "CPUID"."""

import pytest

from kvmharness.kvm import Cap, Kvm
from kvmharness.kvm.lists import cpuid_entries
from kvmharness.suites.unittests import processor
from kvmharness.suites.unittests.cpuid import cpuid_for

pytestmark = pytest.mark.needs("kvm")

PAT, PGE, FXSR, SSE2 = 1 << 16, 1 << 13, 1 << 24, 1 << 26  # leaf 1, EDX
X2APIC, TSC_DEADLINE, XSAVE, HYPERVISOR = 1 << 21, 1 << 24, 1 << 26, 1 << 31  # leaf 1, ECX


def leaves(cpu, apic_id=0, smp=1):
    with Kvm.open() as kvm:
        table = cpuid_for(kvm, processor.read(cpu).to_json(), apic_id, smp)
        supported = {(entry.function, entry.index): entry for entry in kvm.get_supported_cpuid()}
        timer = bool(kvm.check_extension(Cap.TSC_DEADLINE_TIMER))
        return {(entry.function, entry.index): entry for entry in cpuid_entries(table)}, supported, timer


def test_max_is_what_kvm_supports():
    found, supported, timer = leaves("max")
    assert found[1, 0].edx == supported[1, 0].edx
    assert found[1, 0].ecx == supported[1, 0].ecx | HYPERVISOR | (TSC_DEADLINE if timer else 0)
    assert found[7, 0] == supported[7, 0]
    assert found[0, 0] == supported[0, 0]


def test_flags_are_taken_away_and_nothing_else():
    found, supported, _ = leaves("max,-pge,-x2apic,-tsc-deadline,pat=off")
    assert found[1, 0].edx == supported[1, 0].edx & ~(PGE | PAT)
    assert found[1, 0].ecx == (supported[1, 0].ecx | HYPERVISOR) & ~(X2APIC | TSC_DEADLINE)


def test_a_plain_model_has_little_and_what_is_added_to_it():
    found, supported, _ = leaves("qemu64")
    assert not found[1, 0].ecx & XSAVE
    assert found[1, 0].edx & (FXSR | SSE2) == FXSR | SSE2
    assert (found[7, 0].ebx, found[7, 0].ecx, found[7, 0].edx) == (0, 0, 0)
    more, _, _ = leaves("qemu64,+xsave,+umip")
    assert more[1, 0].ecx == found[1, 0].ecx | supported[1, 0].ecx & XSAVE
    assert more[7, 0].ecx == supported[7, 0].ecx & 1 << 2


def test_each_vcpu_has_its_number():
    found, supported, _ = leaves("max", apic_id=3, smp=4)
    assert found[1, 0].ebx == supported[1, 0].ebx & 0xFFFF | 4 << 16 | 3 << 24
    assert all(entry.edx == 3 for (leaf, _), entry in found.items() if leaf in (0xB, 0x1F))


def test_vendor_and_width_of_addresses():
    found, supported, _ = leaves("max,vendor=KvmHarnessXX,phys-bits=36")
    words = (found[0, 0].ebx, found[0, 0].edx, found[0, 0].ecx)
    assert b"".join(word.to_bytes(4, "little") for word in words) == b"KvmHarnessXX"
    assert found[0, 0].eax == supported[0, 0].eax
    assert found[0x8000_0008, 0].eax == supported[0x8000_0008, 0].eax & ~0xFF | 36
