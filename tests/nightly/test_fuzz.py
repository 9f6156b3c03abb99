"""Thousands of calls with border values, under the debug kernel; and a fault that such a value brings out."""

import pytest

from kvmharness.abi.binding import IOCTLS
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.debugging import LITE
from kvmharness.lab.kernels.source import debian
from kvmharness.validation.snapshots import emulated_host
from tests.fuzz import inside
from tests.fuzz.hunt import hunt, made

SEED, SEQUENCES = 2, {inside.IOCTLS: 200, inside.METHODS: 80}
HOSTS = [
    pytest.param("vmx:skylake", marks=pytest.mark.needs("emulated_vmx")),
    pytest.param("svm:epyc", marks=pytest.mark.needs("emulated_svm")),
]

FILE = "arch/x86/kvm/x86.c"
BEFORE = "	if (kvm_nr_mmu_pages < KVM_MIN_ALLOC_MMU_PAGES)\n"
FAULT = "	WARN_ON_ONCE((long)kvm_nr_mmu_pages < 0);\n"


@pytest.mark.parametrize("host", HOSTS)
def test_the_debug_kernel_reports_nothing_and_only_typed_errors_come_out(host):
    kernel = build.kernel(debian(), recipe=LITE)
    parts = [made(level, SEED, number) for level, number in SEQUENCES.items()]
    ioctls, methods = hunt(emulated_host(host, kernel, snapshot=False), kernel.modules, *parts)
    assert ioctls.text() + methods.text() == ""
    assert ioctls.outcomes.keys() >= IOCTLS.keys()
    assert ioctls.calls > 5000
    assert methods.calls > 2000


@pytest.mark.needs("emulated_vmx")
def test_a_warning_at_a_border_is_reported_with_the_call_that_brought_it():
    kernel = build.kernel(debian())
    text = (kernel.tree / FILE).read_text()
    assert text.count(BEFORE) == 1
    faulty = build.variant(kernel.tree, {FILE: text.replace(BEFORE, FAULT + BEFORE).encode()}, name="warns at a border")
    machine = emulated_host("vmx:skylake", kernel, snapshot=False)
    (found,) = hunt(machine, faulty, made(inside.IOCTLS, SEED, 24))
    ((sequence, position, words),) = found.reports
    assert words.headline.startswith("WARNING: ")
    call = found.sequences[sequence][position]
    assert (call["do"], call["with"] >> 63) == ("KVM_SET_NR_MMU_PAGES", 1)
    assert f'"with": {call["with"]}' in found.text().splitlines()[-1]
