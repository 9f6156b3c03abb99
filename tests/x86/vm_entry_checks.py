"""The checks that a processor makes at VM entry, for a 64-bit L1 and L2, on a plain {encoding: value}.

A second reading of the SDM: raw encodings and bit positions, nothing from the package. Titles are those of SDM vol. 3C,
chapter "VM Entries". Only what a table of ours can get wrong is here.
"""

from collections.abc import Mapping

PIN, PROC, PROC2, EXIT, ENTRY = 0x4000, 0x4002, 0x401E, 0x400C, 0x4012
SEGMENTS = {"ES": 0, "CS": 2, "SS": 4, "DS": 6, "FS": 8, "GS": 10, "LDTR": 12, "TR": 14}

# Fields that every 64-bit entry reads, whatever the controls.
ALWAYS_READ = (
    [PIN, PROC, EXIT, ENTRY, 0x4004, 0x4006, 0x4008, 0x400A, 0x400E, 0x4010, 0x4014, 0x4016]
    + [0x6000, 0x6002, 0x6004, 0x6006, 0x2800]
    + [0x6800, 0x6802, 0x6804, 0x681A, 0x681C, 0x681E, 0x6820, 0x6822, 0x6824, 0x6826, 0x482A, 0x4824, 0x4826]
    + [base + off for base in (0x0800, 0x4800, 0x4814, 0x6806) for off in SEGMENTS.values()]
    + [0x6816, 0x6818, 0x4810, 0x4812]
    + [0x0C00 + off for off in range(0, 14, 2)]
    + [0x6C00 + off for off in range(0, 0x18, 2)]
    + [0x4C00]
)


def canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


def problems(vmcs: Mapping[int, int], msrs: Mapping[int, int]) -> list[str]:
    """What the processor would refuse, in words; empty for a good table."""
    found = [f"field {field:#x} was never written" for field in ALWAYS_READ if field not in vmcs]
    if found:
        return found
    return [
        text
        for bad, text in (
            *_controls(vmcs, msrs),
            *_host(vmcs, msrs),
            *_guest(vmcs, msrs),
            *_guest_segments(vmcs),
        )
        if bad
    ]


def _outside(value: int, capability: int) -> int:
    return (capability & 0xFFFFFFFF & ~value) | (value & ~(capability >> 32))


def _controls(v, m):
    """Checks on VMX Controls."""
    true = 0x0C if m[0x480] >> 55 & 1 else 0
    for field, msr in ((PIN, 0x481), (PROC, 0x482), (EXIT, 0x483), (ENTRY, 0x484)):
        yield _outside(v[field], m[msr + true]), f"control {field:#x} against its capability MSR"
    second = v.get(PROC2, 0) if v[PROC] >> 31 else 0
    if v[PROC] >> 31:
        yield PROC2 not in v, "secondary controls on but not written"
        yield _outside(second, m[0x48B]), "secondary controls"
    yield v[0x400A] > 4, "CR3-target count"
    yield v[PROC] >> 25 & 1 and 0x2000 not in v, "I/O bitmaps without address"
    yield v[PROC] >> 28 & 1 and 0x2004 not in v, "MSR bitmaps without address"
    yield v[PROC] >> 21 & 1, "TPR shadow without a virtual-APIC page"
    yield v[PIN] >> 5 & 1 and not v[PIN] >> 3 & 1, "virtual NMIs without NMI exiting"
    yield second >> 5 & 1 and not v.get(0, 0), "VPID on and 0"
    if second >> 1 & 1:
        eptp = v.get(0x201A, 1)
        yield eptp & 7 not in (0, 6), "EPTP memory type"
        yield eptp >> 3 & 7 != 3, "EPTP walk length"
        yield eptp & 0xF80, "EPTP reserved bits"
        yield eptp >> 6 & 1 and not m[0x48C] >> 21 & 1, "EPTP A/D"
    yield v[0x4016] >> 31, "an event is injected"


def _host(v, m):
    """Checks on Host Control Registers and MSRs; on Host Segment and Descriptor-Table Registers."""
    yield (m[0x486] & ~v[0x6C00]) | (v[0x6C00] & ~m[0x487]), "HOST_CR0"
    yield (m[0x488] & ~v[0x6C04]) | (v[0x6C04] & ~m[0x489]), "HOST_CR4"
    yield v[0x6C02] >> 52, "HOST_CR3"
    yield not v[EXIT] >> 9 & 1, "host address-space size"
    yield not v[0x6C04] >> 5 & 1, "HOST_CR4.PAE"
    if v[EXIT] >> 21 & 1:
        yield v.get(0x2C02, 0) & 0x500 != 0x500, "HOST_IA32_EFER"
    for off in range(0, 14, 2):
        yield v[0x0C00 + off] & 7, f"host selector {off:#x}: RPL or TI"
    yield not v[0x0C02], "HOST_CS null"
    yield not v[0x0C0C], "HOST_TR null"
    for field in (0x6C06, 0x6C08, 0x6C0A, 0x6C0C, 0x6C0E, 0x6C10, 0x6C12, 0x6C16):
        yield not canonical(v[field]), f"host address {field:#x}"


def _guest(v, m):
    """Checks on Guest Control Registers; on Guest RIP, RFLAGS and SSP; on Guest Non-Register State."""
    yield (m[0x486] & ~v[0x6800]) | (v[0x6800] & ~m[0x487]), "GUEST_CR0"
    yield (m[0x488] & ~v[0x6804]) | (v[0x6804] & ~m[0x489]), "GUEST_CR4"
    yield v[0x6802] >> 52, "GUEST_CR3"
    yield not v[ENTRY] >> 9 & 1, "IA-32e mode guest"
    yield not v[0x6800] >> 31 & 1, "GUEST_CR0.PG"
    yield not v[0x6804] >> 5 & 1, "GUEST_CR4.PAE"
    if v[ENTRY] >> 15 & 1:
        yield v.get(0x2806, 0) & 0x500 != 0x500, "GUEST_IA32_EFER"
    if v[ENTRY] >> 2 & 1:
        yield 0x2802 not in v, "debug controls without GUEST_IA32_DEBUGCTL"
        yield v[0x681A] >> 32, "DR7"
    yield not canonical(v[0x681E]), "GUEST_RIP"
    yield not v[0x6820] & 2 or v[0x6820] & 0xFFFF_FFFF_FFC0_8028, "GUEST_RFLAGS"
    yield v[0x4826], "activity state"
    yield v[0x4824], "interruptibility"
    yield v[0x2800] != 0xFFFF_FFFF_FFFF_FFFF, "VMCS link pointer"
    for field in (0x6816, 0x6818):
        yield not canonical(v[field]), f"guest table {field:#x}"
    yield v[0x4810] >> 16 or v[0x4812] >> 16, "GDTR or IDTR limit"


def _guest_segments(v):
    """Checks on Guest Segment Registers, without virtual-8086 mode and unrestricted guest."""
    for name, off in SEGMENTS.items():
        selector, limit, rights, base = (v[area + off] for area in (0x0800, 0x4800, 0x4814, 0x6806))
        if rights >> 16 & 1:
            yield name in ("CS", "TR"), f"{name} unusable"
            continue
        kind, s, dpl, present = rights & 0xF, rights >> 4 & 1, rights >> 5 & 3, rights >> 7 & 1
        yield rights & 0xFFFE_0F00, f"{name} reserved access rights"
        yield not present, f"{name} not present"
        yield rights >> 15 & 1 and limit & 0xFFF != 0xFFF, f"{name} G = 1 with small limit"
        yield not rights >> 15 & 1 and limit >> 20, f"{name} G = 0 with large limit"
        if name == "CS":
            yield kind not in (9, 11, 13, 15), "CS type"
            yield kind in (9, 11) and dpl != v[0x4818] >> 5 & 3, "CS and SS DPL differ"
            yield not rights >> 13 & 1 or rights >> 14 & 1, "CS is not 64-bit"
            yield base >> 32, "CS base"
        elif name == "SS":
            yield kind not in (3, 7), "SS type"
            yield selector & 3 != v[0x0802] & 3 or dpl != selector & 3, "SS RPL or DPL"
        elif name == "TR":
            yield kind != 11, "TR is not a busy 64-bit TSS"
            yield s or selector & 4, "TR"
            yield not canonical(base), "TR base"
        elif name == "LDTR":
            yield kind != 2 or s or selector & 4, "LDTR"
        else:
            yield not kind & 1 or (kind & 8 and not kind & 2), f"{name} type"
            yield dpl < selector & 3, f"{name} DPL below RPL"
        if name not in ("TR", "LDTR"):
            yield not s, f"{name} is a system segment"
