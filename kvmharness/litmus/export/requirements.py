"""What a test asks of a host, as statements that skip it where that is not offered."""

from collections.abc import Iterator

from kvmharness.litmus.needs import features, wishes
from kvmharness.litmus.program import Program
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.litmus import WISHES, MsrBits
from kvmharness.vendors.vendor import Vendor
from kvmharness.x86.cpuid import Feature


def cpuid_checks(program: Program, vendor: Vendor | None, *, state: bool) -> str:
    """By CPUID and by KVM's capabilities.

    Args:
        program: the test.
        vendor: whose virtualization it uses, None for none.
        state: nested state is read and set.
    """
    wanted = sorted(features(program), key=lambda feature: feature.name)
    if vendor is not None:
        asks = litmus_of(vendor).asks
        named = (asks[wish] for wish in sorted(wishes(program)))
        wanted = [vendor.feature, *wanted, *(ask for ask in named if isinstance(ask, Feature))]
    lines = [_require(_cpu_has(feature), feature.name) for feature in dict.fromkeys(wanted)]
    if vendor is not None and state:
        lines.append("\tTEST_REQUIRE(kvm_has_cap(KVM_CAP_NESTED_STATE));\n")
    return "\n".join(lines) + "\n" if lines else ""


def msr_checks(program: Program, vendor: Vendor | None) -> str:
    """By the capability MSRs of the vCPU."""
    if vendor is None:
        return ""
    asks = litmus_of(vendor).asks
    found = ((wish, asks[wish]) for wish in sorted(wishes(program)))
    return "\n".join(line for wish, ask in found if isinstance(ask, MsrBits) for line in _msr(wish, ask))


def _msr(wish: str, ask: MsrBits) -> Iterator[str]:
    for msr, mask in ask.bits:
        yield _require(f"msr_has({msr:#x}, {mask:#x})", WISHES[wish].partition(" (")[0])


def _cpu_has(feature: Feature) -> str:
    bit = feature.value
    return f"kvm_cpu_has(KVM_X86_CPU_FEATURE({bit.leaf:#x}, {bit.subleaf}, {bit.register.upper()}, {bit.bit}))"


def _require(condition: str, what: str) -> str:
    return f'\t__TEST_REQUIRE({condition},\n\t\t       "KVM offers no {what} to guests");'
