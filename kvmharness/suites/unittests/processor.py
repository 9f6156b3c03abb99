"""What QEMU's option ``-cpu`` asks for, as changes of the CPUID that KVM supports.

A model is not rebuilt: whatever its name, the guest sees what the host's KVM offers, but for the flags that are taken
away, as with ``max``. The plain 64-bit models are the exception, since tests name them to see a processor of few
features. A flag that is added is there if KVM offers it.
Source: SDM vol. 2A, "CPUID"; APM vol. 3, appendix E; for names, arch/x86/include/asm/cpufeatures.h, where a dash stands
for an underline.
"""

from dataclasses import dataclass, field
from typing import Any

from kvmharness.x86.cpuid import CpuidBit, Feature, Leaf

_EXTENDED, _STRUCTURED, _SVM = Leaf.EXTENDED_FEATURES, Leaf.STRUCTURED_FEATURES, Leaf.SVM
_MORE = {
    "vme": CpuidBit(Leaf.FEATURES, 0, "edx", 1),
    "ss": CpuidBit(Leaf.FEATURES, 0, "edx", 27),
    "pdcm": CpuidBit(Leaf.FEATURES, 0, "ecx", 15),
    "xsave": CpuidBit(Leaf.FEATURES, 0, "ecx", 26),
    "avx": CpuidBit(Leaf.FEATURES, 0, "ecx", 28),
    "fsgsbase": CpuidBit(_STRUCTURED, 0, "ebx", 0),
    "tsc-adjust": CpuidBit(_STRUCTURED, 0, "ebx", 1),
    "hle": CpuidBit(_STRUCTURED, 0, "ebx", 4),
    "rtm": CpuidBit(_STRUCTURED, 0, "ebx", 11),
    "umip": CpuidBit(_STRUCTURED, 0, "ecx", 2),
    "pks": CpuidBit(_STRUCTURED, 0, "ecx", 31),
    "lam": CpuidBit(_STRUCTURED, 1, "eax", 26),
    "skinit": CpuidBit(_EXTENDED, 0, "ecx", 12),
    "lbrv": CpuidBit(_SVM, 0, "edx", 1),
    "nrip-save": CpuidBit(_SVM, 0, "edx", 3),
    "tsc-scale": CpuidBit(_SVM, 0, "edx", 4),
    "decodeassists": CpuidBit(_SVM, 0, "edx", 7),
    "pause-filter": CpuidBit(_SVM, 0, "edx", 10),
    "pfthreshold": CpuidBit(_SVM, 0, "edx", 12),
    "vgif": CpuidBit(_SVM, 0, "edx", 16),
    "vnmi": CpuidBit(_SVM, 0, "edx", 25),
    "kvm": CpuidBit(Leaf.KVM_SIGNATURE + 1, 0, "eax", 0),
}
_FEATURES = {
    "x2apic": "X2APIC",
    "tsc-deadline": "TSC_DEADLINE",
    "nx": "NX",
    "lm": "LONG_MODE",
    "pdpe1gb": "GBPAGES",
    "invtsc": "INVARIANT_TSC",
    "flushbyasid": "FLUSH_BY_ASID",
    **{name: name.upper() for name in ("monitor", "vmx", "pcid", "hypervisor", "pae", "pge", "pat", "smep", "invpcid")},
    **{name: name.upper() for name in ("smap", "pku", "la57", "svm", "rdtscp", "npt")},
}
FLAGS = {name: CpuidBit(*Feature[feature].value) for name, feature in _FEATURES.items()} | _MORE
"""By QEMU's name for it."""

_PLAIN_MODELS = ("qemu64", "kvm64")
# What every 64-bit processor has (with the APIC, MTRRs and a hypervisor around it), by leaf, subleaf and register; of
# the leaves that are named nothing else is kept.
_PLAIN = (
    (Leaf.FEATURES, 0, "edx", 0x178B_FBFF),
    (Leaf.FEATURES, 0, "ecx", 0x8020_2001),  # SSE3, CX16, x2APIC, hypervisor
    (_STRUCTURED, 0, "ebx", 0),
    (_STRUCTURED, 0, "ecx", 0),
    (_STRUCTURED, 0, "edx", 0),
    (_STRUCTURED, 1, "eax", 0),
    (Leaf.XSTATE, 0, "eax", 0),
    (_EXTENDED, 0, "edx", 0x2010_0800),  # SYSCALL, NX, long mode
    (_EXTENDED, 0, "ecx", 0x5),  # LAHF in 64-bit mode, SVM
)
_ON, _OFF = ("on", "yes", "true"), ("off", "no", "false")
# Said of QEMU's own ways, or of what a VM of KVM has anyway.
_NOTHING = frozenset(("migratable", "check", "enforce", "host-phys-bits-limit", "host-cache-info", "pmu", "l3-cache"))


@dataclass(slots=True)
class Processor:
    """What is changed; bits are (leaf, subleaf, register, mask).

    Attributes:
        keep: of these registers only the bits of the mask are kept, unless they are added.
        add: bits that are there if KVM offers them.
        remove: bits that are not there.
        vendor: the vendor string; empty for the host's.
        phys_bits: width of physical addresses; 0 for the host's.
        missing: the first thing that cannot be had; empty when all can.
        notes: flags that are left out of account.
    """

    keep: list[tuple[int, int, str, int]] = field(default_factory=list)
    add: list[tuple[int, int, str, int]] = field(default_factory=list)
    remove: list[tuple[int, int, str, int]] = field(default_factory=list)
    vendor: str = ""
    phys_bits: int = 0
    missing: str = ""
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What :func:`kvmharness.suites.unittests.vcpus.cpuid_for` takes."""
        bits = {name: [list(bit) for bit in getattr(self, name)] for name in ("keep", "add", "remove")}
        return {**bits, "vendor": self.vendor, "phys_bits": self.phys_bits}


def read(value: str) -> Processor:
    """Reads the option's value: a model, and flags behind commas."""
    model, *flags = value.split(",")
    made = Processor()
    if model in _PLAIN_MODELS:
        made.keep.extend(_PLAIN)
    for flag in filter(None, flags):
        _take(made, flag)
    return made


def _take(made: Processor, flag: str) -> None:
    name, equals, value = flag.partition("=")
    if flag[0] in "+-":
        name, on = flag[1:], flag[0] == "+"
    else:
        on = not equals or value in _ON
    name = name.replace("_", "-")
    if name == "vendor":
        if len(value) != 12 or not value.isascii():
            made.missing = made.missing or f"a processor whose vendor is {value!r}, which has not 12 letters"
        made.vendor = value
    elif name == "phys-bits" and value.isdecimal():
        made.phys_bits = int(value)
    elif name == "host-phys-bits":
        pass  # without phys-bits it is as the host has it
    elif name.startswith("hv-"):
        made.missing = made.missing or f"Hyper-V's CPUID leaves ({flag})"
    elif name in FLAGS and (not equals or value in _ON + _OFF):
        bit = FLAGS[name]
        (made.add if on else made.remove).append((bit.leaf, bit.subleaf, bit.register, bit.mask))
    elif name not in _NOTHING:
        made.notes.append(f"the CPU flag {flag!r} is left out of account")
