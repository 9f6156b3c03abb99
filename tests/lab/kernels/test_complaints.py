"""Complaints of builds: what GCC 12, kernel-doc, modpost and make wrote when KVM of Linux 6.1 was compiled."""

import pytest

from kvmharness.lab.kernels.complaints import complaints, new

WARNED = """\
  CC [M]  arch/x86/kvm/mmu/mmu.o
arch/x86/kvm/mmu/mmu.c: In function ‘kvm_mmu_new_pgd’:
arch/x86/kvm/mmu/mmu.c:4477:13: warning: unused variable ‘zzz’ [-Wunused-variable]
 4477 |         int zzz; int yyy = 0;
      |             ^~~
arch/x86/kvm/mmu/mmu.c: At top level:
arch/x86/kvm/mmu/mmu.c:4474:12: warning: ‘unused_one’ defined but not used [-Wunused-variable]
 4474 | static int unused_one;
      |            ^~~~~~~~~~
arch/x86/kvm/mmu/mmu.c:1325: warning: Function parameter or member 'kvm' not described in 'kvm_arch_mmu_enable'
  LD [M]  arch/x86/kvm/kvm.o
"""
BROKEN = """\
arch/x86/kvm/mmu/mmu.c: In function 'kvm_mmu_new_pgd':
arch/x86/kvm/mmu/mmu.c:4477:28: error: 'nope' undeclared (first use in this function); did you mean 'node'?
 4477 |         int zzz; int yyy = nope;
      |                            ^~~~
      |                            node
arch/x86/kvm/mmu/mmu.c:4477:28: note: each undeclared identifier is reported only once for each function
make[1]: *** [scripts/Makefile.build:255: arch/x86/kvm/mmu/mmu.o] Error 1
make: *** [Makefile:2065: arch/x86/kvm] Error 2
make: Target 'mmu/mmu.o' not remade because of errors.
"""
UNDEFINED = """\
  MODPOST arch/x86/kvm/Module.symvers
ERROR: modpost: "nowhere" [arch/x86/kvm/kvm.ko] undefined!
make[1]: *** [scripts/Makefile.modpost:127: arch/x86/kvm/Module.symvers] Error 1
"""
NO_RULE = """\
make[1]: *** No rule to make target 'arch/x86/kvm/nosuch.o'.
make: *** [Makefile:2065: arch/x86/kvm] Error 2
"""


def read(text):
    return complaints(text.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            WARNED,
            [
                "mmu/mmu.c, in kvm_mmu_new_pgd(): unused variable 'zzz' [-Wunused-variable]",
                "mmu/mmu.c: 'unused_one' defined but not used [-Wunused-variable]",
                "mmu/mmu.c: Function parameter or member 'kvm' not described in 'kvm_arch_mmu_enable'",
            ],
        ),
        (
            BROKEN,
            ["mmu/mmu.c, in kvm_mmu_new_pgd(): 'nope' undeclared (first use in this function); did you mean 'node'?"],
        ),
        (UNDEFINED, ['modpost: "nowhere" [arch/x86/kvm/kvm.ko] undefined!']),
        (
            NO_RULE,
            ["No rule to make target 'arch/x86/kvm/nosuch.o'.", "arch/x86/kvm Error 2"],
        ),
        ("  CC [M]  arch/x86/kvm/mmu/mmu.o\n  LD [M]  arch/x86/kvm/kvm.o\n", []),
    ],
)
def test_what_a_build_complains_of(text, expected):
    assert list(map(str, read(text))) == expected


def test_errors_are_told_from_warnings_and_keep_their_lines():
    (error,), warnings = read(BROKEN), read(WARNED)
    assert error.error
    assert not any(each.error for each in warnings)
    assert [len(each.lines) for each in warnings] == [3, 3, 1]
    assert error.lines == tuple(BROKEN.splitlines()[1:5])


@pytest.mark.parametrize(
    ("old", "changed"),
    [
        (":4477:13:", ":4501:22:"),
        ("‘zzz’", "'zzz'"),
        (" 4477 |", " 4501 |"),
        ("[-Wunused-variable]\n 4477", "[-Werror=unused-variable]\n 4477"),
        ("mmu.c:4477:13: warning", "mmu.c:4477:13: error"),
        ("arch/x86/kvm/mmu/mmu.c", "arch/x86/kvm/../kvm/mmu/mmu.c"),
    ],
)
def test_the_same_complaint_elsewhere_is_not_new(old, changed):
    assert old in WARNED
    assert read(WARNED.replace(old, changed)) == read(WARNED)
    assert new(read(WARNED), read(WARNED.replace(old, changed))) == []


@pytest.mark.parametrize(
    ("old", "changed"),
    [("kvm_mmu_new_pgd", "kvm_mmu_load"), ("zzz’ [", "other’ ["), ("arch/x86/kvm/mmu/mmu.c", "arch/x86/kvm/x86.c")],
)
def test_another_complaint_is_new(old, changed):
    assert new(read(WARNED), read(WARNED.replace(old, changed)))


def test_errors_come_first_among_what_is_new():
    assert [each.error for each in new([], read(WARNED + BROKEN))] == [True, False, False, False]


def test_addresses_of_checkers_do_not_count():
    said = "arch/x86/kvm/kvm.o: warning: objtool: vmx_run+0x{}: unreachable instruction\n"
    assert read(said.format("1f/0x40")) == read(said.format("2f"))
    assert str(read(said.format("1f"))[0]) == "kvm.o: objtool: vmx_run: unreachable instruction"
