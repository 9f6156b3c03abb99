"""CPUID: the leaves and feature bits that the harness asks about or gives to its guests.

Source: SDM vol. 2A, "CPUID-CPU Identification"; for the 0x8000_000A leaf, APM vol. 3, "Feature Identification".
"""

from enum import Enum, IntEnum
from typing import NamedTuple


class Leaf(IntEnum):
    """A CPUID function number, the EAX input."""

    VENDOR = 0x0
    FEATURES = 0x1
    STRUCTURED_FEATURES = 0x7
    XSTATE = 0xD
    TSC_RATIO = 0x15
    KVM_SIGNATURE = 0x4000_0000
    EXTENDED_MAX = 0x8000_0000
    EXTENDED_FEATURES = 0x8000_0001
    ADVANCED_POWER = 0x8000_0007
    ADDRESS_SIZES = 0x8000_0008
    SVM = 0x8000_000A


class CpuidBit(NamedTuple):
    """Where a feature bit is: leaf, subleaf (the ECX input), output register, bit."""

    leaf: int
    subleaf: int
    register: str
    bit: int

    @property
    def mask(self) -> int:
        """The bit as a mask of its 32-bit register."""
        return 1 << self.bit


class Feature(CpuidBit, Enum):
    """A processor feature, named as in the SDM (SVM and NPT as in the APM)."""

    MONITOR = (Leaf.FEATURES, 0, "ecx", 3)
    VMX = (Leaf.FEATURES, 0, "ecx", 5)
    PCID = (Leaf.FEATURES, 0, "ecx", 17)
    X2APIC = (Leaf.FEATURES, 0, "ecx", 21)
    TSC_DEADLINE = (Leaf.FEATURES, 0, "ecx", 24)
    HYPERVISOR = (Leaf.FEATURES, 0, "ecx", 31)
    PAE = (Leaf.FEATURES, 0, "edx", 6)
    PGE = (Leaf.FEATURES, 0, "edx", 13)
    PAT = (Leaf.FEATURES, 0, "edx", 16)
    SMEP = (Leaf.STRUCTURED_FEATURES, 0, "ebx", 7)
    INVPCID = (Leaf.STRUCTURED_FEATURES, 0, "ebx", 10)
    SMAP = (Leaf.STRUCTURED_FEATURES, 0, "ebx", 20)
    PKU = (Leaf.STRUCTURED_FEATURES, 0, "ecx", 3)
    LA57 = (Leaf.STRUCTURED_FEATURES, 0, "ecx", 16)
    SVM = (Leaf.EXTENDED_FEATURES, 0, "ecx", 2)
    NX = (Leaf.EXTENDED_FEATURES, 0, "edx", 20)
    GBPAGES = (Leaf.EXTENDED_FEATURES, 0, "edx", 26)
    RDTSCP = (Leaf.EXTENDED_FEATURES, 0, "edx", 27)
    LONG_MODE = (Leaf.EXTENDED_FEATURES, 0, "edx", 29)
    INVARIANT_TSC = (Leaf.ADVANCED_POWER, 0, "edx", 8)
    NPT = (Leaf.SVM, 0, "edx", 0)
    FLUSH_BY_ASID = (Leaf.SVM, 0, "edx", 6)


class Registers(NamedTuple):
    """What one CPUID leaf answers."""

    eax: int
    ebx: int
    ecx: int
    edx: int

    def has(self, feature: CpuidBit) -> bool:
        """Whether the feature's bit is set; the caller has looked up the feature's own leaf."""
        value: int = getattr(self, feature.register)
        return bool(value & feature.mask)


def vendor(leaf0: Registers) -> str:
    """The vendor string of leaf 0, for example "GenuineIntel"."""
    words = (leaf0.ebx, leaf0.edx, leaf0.ecx)
    return b"".join(word.to_bytes(4, "little") for word in words).decode("ascii", "replace")
