"""Which files a build takes commands from, and what is asked for where there is no sandbox for it."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.system import sandbox
from kvmharness.validation import trust

COMMANDS = [
    *("arch/x86/kvm/Makefile", "Makefile", "scripts/Makefile.build", "arch/x86/kvm/Kconfig", "virt/kvm/Makefile.kvm"),
    *("Kbuild", "scripts/mod/modpost.c", "tools/testing/selftests/kvm/lib/kvm_util.c", "arch/x86/tools/relocs.c"),
    *("tools/testing/selftests/lib.mk", "kernel/gen_kheaders.sh", "arch/x86/lib/gen-insn-attr-x86.awk"),
]
CODE = ["arch/x86/kvm/mmu/mmu.c", "include/linux/kvm_host.h", "virt/kvm/kvm_main.c", "Documentation/toolsmith/x.rst"]


@pytest.mark.parametrize("path", COMMANDS)
def test_without_a_sandbox_what_make_takes_commands_from_is_refused_unless_it_is_allowed(path, monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", lambda: "unshare failed")
    with pytest.raises(UsageError, match=r"my\.mbox changes .*, from which a build takes commands") as caught:
        trust.check_build("my.mbox", [*CODE, path], allowed=False)
    assert path in str(caught.value)
    assert "unshare failed" in str(caught.value)
    assert trust.UNSANDBOXED in caught.value.hint
    trust.check_build("my.mbox", [*CODE, path], allowed=True)


def test_code_is_compiled_without_a_word(monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", lambda: "unshare failed")
    trust.check_build("my.mbox", CODE, allowed=False)


def test_in_a_sandbox_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", lambda: "")
    trust.check_build("my.mbox", COMMANDS, allowed=False)
    assert not trust.note()
