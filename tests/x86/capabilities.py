"""VMX capability MSRs of some machines, as KVM reports them to a guest: {index: value}.

The "must be 1" halves are what KVM's nested_vmx_setup_ctls_msrs() sets (PIN_BASED_ALWAYSON_WITHOUT_TRUE_MSR and so on,
less the bits it frees); the "may be 1" halves are cut to the machine.
"""

EPT_CAP = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 20 | 1 << 25 | 1 << 26 | 1
VPID_CAP = 0xF01 << 32

_COMMON = {
    0x480: 1 << 55 | 6 << 50 | 0x1000 << 32 | 0x11E57ED0,
    0x485: 0x2000_0165,
    0x486: 0x8000_0021,
    0x487: 0xFFFF_FFFF,
    0x488: 0x2000,
    0x48D: 0x0000_007F_0000_0016,
    0x48E: 0xFFF9_FFFE_0400_6172,
    0x48F: 0x007F_FFFF_0003_6DFB,
    0x490: 0x0000_F3FF_0000_11FB,
}

SKYLAKE = _COMMON | {0x489: 0x0037_67FF, 0x48B: 0x0017_FFFF << 32, 0x48C: EPT_CAP | VPID_CAP | 1 << 21}
LYNNFIELD = _COMMON | {0x489: 0x0002_67FF, 0x48B: 0x402A << 32, 0x48C: EPT_CAP | VPID_CAP}
# No EPT, no VPID: only the VMCS shadowing that KVM emulates anywhere. No EPT_VPID_CAP either.
PENRYN = _COMMON | {0x489: 0x0000_67FF, 0x48B: 0x4000 << 32}
# The first VMX processors: no secondary controls, no TRUE MSRs, EFER not loaded, CR3 accesses always exit.
FIRST_VMX = {
    0x480: 6 << 50 | 0x400 << 32 | 0x5,
    0x481: 0x0000_001F_0000_0016,
    0x482: 0x7781_FFFE_0401_E172,
    0x483: 0x0003_EFFF_0003_6DFF,
    0x484: 0x0000_1FFF_0000_11FF,
    0x485: 0x0000_0403,
    0x486: 0x8000_0021,
    0x487: 0xFFFF_FFFF,
    0x488: 0x2000,
    0x489: 0x27FF,
}
