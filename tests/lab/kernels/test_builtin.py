"""Whether a change makes another vmlinux: tried on small trees whose objects a real compiler makes."""

import subprocess

import pytest

from kvmharness.lab.kernels import builtin

HEADER = "include/linux/kvm_host.h"
SHARED = "kernel/entry/kvm.o"
FILES = {
    HEADER: "struct kvm_vcpu {\n\tint cpu;\n\tint run;\n};\n",
    "include/linux/mm.h": "#define PAGES 1\n",
    "kernel/entry/kvm.c": '#include "linux/kvm_host.h"\nint where(struct kvm_vcpu *v) { return v->run; }\n',
    "mm/memory.c": '#include "linux/mm.h"\nint pages(void) { return PAGES; }\n',
    "kernel/bounds.c": '#include "linux/mm.h"\nint bound = PAGES;\n',
    "arch/x86/kvm/mmu/mmu.c": '#include "linux/kvm_host.h"\nint mmu;\n',
    "Makefile": "all:\n",
}
SOURCES = {
    "kernel/entry/kvm.o": "kernel/entry/kvm.c",
    "mm/memory.o": "mm/memory.c",
    "kernel/bounds.s": "kernel/bounds.c",
    "arch/x86/kvm/mmu/mmu.o": "arch/x86/kvm/mmu/mmu.c",
}


@pytest.fixture
def tree(tmp_path):
    """A tree as a build leaves it: objects, and beside each the command that made it and what it depends on."""
    root = tmp_path / "kernels/0123/tree"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for target, source in SOURCES.items():
        mode = "-S" if target.endswith(".s") else "-c"
        command = f"gcc -O2 -Iinclude {mode} -o {target} {source}"
        subprocess.run(["/bin/sh", "-c", command], cwd=root, check=True)
        header = FILES[source].split('"')[1]
        name = target.rpartition("/")[2]
        (root / target).with_name(f".{name}.cmd").write_text(
            f"cmd_{target} := {command}\n\nsource_{target} := {source}\n\ndeps_{target} := \\\n"
            f"    $(wildcard include/config/KVM) \\\n  include/{header} \\\n  /usr/include/stdc-predef.h \\\n"
        )
    return root


@pytest.fixture(params=["a tree of somebody's own", "what the cache keeps"])
def built(tree, request):
    if request.param.startswith("what"):
        builtin.keep(tree, tree.parent / builtin.FOLDER)
        for folder in ("kernel", "mm"):  # the cache does not keep them
            subprocess.run(["rm", "-r", tree / folder], check=True)
    return tree


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("arch/x86/kvm/mmu/mmu.c", "int other;\n", ""),
        ("virt/kvm/kvm_main.c", "int other;\n", ""),
        ("Documentation/virt/kvm/api.rst", "text", ""),
        ("tools/testing/selftests/kvm/Makefile", "all:", ""),
        ("include/uapi/linux/kvm.h", "#define NOBODY 1\n", ""),
        ("drivers/nobody/built.c", "int x;\n", ""),
        (HEADER, "/* in words */\n" + FILES[HEADER], ""),
        (HEADER, FILES[HEADER].replace("run;", "run;\n\tint new;"), ""),
        (HEADER, FILES[HEADER].replace("int run", "int new;\n\tint run"), SHARED),
        (HEADER, "struct kvm_vcpu;\n", "does not compile"),
        ("include/linux/mm.h", "#define PAGES 1\n", "include/linux/mm.h is compiled into the kernel"),
        ("mm/memory.c", "int pages;\n", "mm/memory.c is compiled into the kernel"),
        ("Makefile", "all: other", "Makefile decides how"),
        ("arch/x86/Kconfig", "config X", "Kconfig decides how"),
    ],
)
def test_what_makes_another_kernel(built, path, text, why):
    found = builtin.changes(built, {path: text.encode()})
    assert why in found
    assert bool(found) is bool(why)


def test_a_header_that_is_removed(built):
    assert "does not compile" in builtin.changes(built, {HEADER: None})


def test_the_tree_stays_as_it_was(built):
    before = {path: path.stat().st_mtime_ns for path in sorted(built.rglob("*"))}
    builtin.changes(built, {HEADER: b"struct kvm_vcpu { int new, cpu, run; };\n"})
    assert {path: path.stat().st_mtime_ns for path in sorted(built.rglob("*"))} == before


def test_a_tree_that_says_nothing_about_its_kernel(tmp_path):
    (tmp_path / "tree").mkdir()
    assert "nothing" in builtin.changes(tmp_path / "tree", {HEADER: b""})
    assert builtin.changes(tmp_path / "tree", {"arch/x86/kvm/x86.c": b""}) == ""
