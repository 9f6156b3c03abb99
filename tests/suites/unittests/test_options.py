"""QEMU's options: what they ask of a machine, as far as it can be had, and CPU flags as bits of CPUID."""

import pytest

from kvmharness.suites.unittests import options, processor


def bit(leaf, subleaf, register, number):
    return leaf, subleaf, register, 1 << number


def test_nothing_said():
    wanted = options.read(())
    assert (wanted.memory_mb, wanted.pit, wanted.cpu_pm, wanted.append, wanted.missing) == (128, True, False, None, "")
    assert wanted.processor == processor.Processor()


@pytest.mark.parametrize(
    ("value", "memory_mb"), [("512", 512), ("4g", 4096), ("4G", 4096), ("size=2560M", 2560), ("65536k", 64)]
)
def test_memory(value, memory_mb):
    assert options.read(("-m", value)).memory_mb == memory_mb


@pytest.mark.parametrize("value", ["", "much", "0", "1k", "-4", "1.5g"])
def test_memory_that_cannot_be_read(value):
    assert options.read(("-m", value)).missing == f"memory of the size {value!r}, which cannot be read"


def test_options_that_change_the_machine():
    words = [
        "-enable-kvm",
        "-machine",
        "pit=off,accel=kvm",
        "-overcommit",
        "cpu-pm=on",
        "-append",
        "abc",
        "--nodefaults",
    ]
    wanted = options.read((*words, "-global", "kvm-pit.lost_tick_policy=discard"))
    assert (wanted.pit, wanted.cpu_pm, wanted.append, wanted.missing) == (False, True, "abc", "")


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("-device edu", "the device edu"),
        ("-device hyperv-testdev,x=1 -device edu", "the device hyperv-testdev"),
        ("-M q35,kernel-irqchip=split", "the machine's property kernel-irqchip=split"),
        ("-machine vmport=on", "VMware's port (vmport)"),
        ("-accel tcg", "the machine's property accel=tcg"),
        ("-netdev user", "what QEMU's option -netdev user stands for"),
        ("-cpu host,hv_passthrough", "Hyper-V's CPUID leaves (hv_passthrough)"),
        ("disk.img", "QEMU's argument 'disk.img'"),
    ],
)
def test_what_cannot_be_had_is_named(words, missing):
    assert options.read(words.split()).missing == missing


def test_devices_that_are_here():
    assert options.read(["-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]).missing == ""


def test_flags_are_bits_of_cpuid():
    """SDM vol. 2A, "CPUID": leaf 7, ECX: UMIP is bit 2, PKU bit 3; leaf 1, ECX: TSC deadline is 24, x2APIC 21."""
    made = processor.read("max,+umip,-pku,x2apic=off,tsc-deadline=on,tsc_deadline")
    assert made.add == [bit(7, 0, "ecx", 2), bit(1, 0, "ecx", 24), bit(1, 0, "ecx", 24)]
    assert made.remove == [bit(7, 0, "ecx", 3), bit(1, 0, "ecx", 21)]
    assert made.keep == []


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("svm", bit(0x8000_0001, 0, "ecx", 2)),  # APM vol. 3, appendix E
        ("npt", bit(0x8000_000A, 0, "edx", 0)),
        ("skinit", bit(0x8000_0001, 0, "ecx", 12)),
        ("rdtscp", bit(0x8000_0001, 0, "edx", 27)),
        ("pause-filter", bit(0x8000_000A, 0, "edx", 10)),
        ("vmx", bit(1, 0, "ecx", 5)),  # SDM vol. 2A
        ("xsave", bit(1, 0, "ecx", 26)),
        ("invpcid", bit(7, 0, "ebx", 10)),
        ("pcid", bit(1, 0, "ecx", 17)),
    ],
)
def test_flags_of_the_field(flag, expected):
    assert processor.read(f"max,-{flag}").remove == [expected]


def test_vendor_and_width():
    made = processor.read("IvyBridge,vendor=GenuineIntel,phys-bits=36,host-phys-bits=off,migratable=no")
    assert (made.vendor, made.phys_bits, made.missing, made.notes) == ("GenuineIntel", 36, "", [])


def test_a_vendor_that_is_none():
    assert "12 letters" in processor.read("max,vendor=Intel").missing


def test_an_unknown_flag_is_a_note():
    wanted = options.read(("-cpu", "max,+vmx-mbec,pku=maybe"))
    assert wanted.missing == ""
    assert wanted.notes == [
        "the CPU flag '+vmx-mbec' is left out of account",
        "the CPU flag 'pku=maybe' is left out of account",
    ]


def test_a_plain_model_has_long_mode_and_no_leaf_7():
    kept = {(leaf, subleaf, register): mask for leaf, subleaf, register, mask in processor.read("qemu64").keep}
    assert kept[0x8000_0001, 0, "edx"] == 1 << 29 | 1 << 20 | 1 << 11
    assert kept[7, 0, "ebx"] == kept[7, 0, "ecx"] == 0
    assert kept[1, 0, "ecx"] & (1 << 26 | 1 << 17 | 1 << 28) == 0, "no XSAVE, PCID, AVX"
    # FPU, TSC, MSR, PAE, CX8, APIC, CMOV, FXSR, SSE, SSE2
    for number in (0, 4, 5, 6, 8, 9, 15, 24, 25, 26):
        assert kept[1, 0, "edx"] >> number & 1
