"""Which options KVM has and how they are switched, and which files include a header: on a tree of a few files."""

import pytest

from kvmharness.lab.kernels import build, checks
from kvmharness.lab.kernels.checks import Check
from kvmharness.lab.kernels.make import Said
from tests.folders import written

KVM = "arch/x86/kvm"
CONFIG, HEADER, MARK = "include/config/auto.conf", "include/generated/autoconf.h", "include/config/{}"
FILES = {
    f"{KVM}/Kconfig": "config KVM\n\ttristate\nconfig KVM_SMM\n\tbool\n\nconfig KVM_XEN\n\tbool\n\tdepends on KVM\n",
    f"{KVM}/x86.c": "",
    f"{KVM}/.x86.o.cmd": f"source_{KVM}/x86.o := {KVM}/x86.c\n\ndeps_x := \\\n  {KVM}/lapic.h \\\n  {KVM}/x86.h \\\n",
    f"{KVM}/.eventfd.o.cmd": (
        f"source_{KVM}/../../../virt/kvm/eventfd.o := {KVM}/../../../virt/kvm/eventfd.c\n\n"
        f"deps_x := \\\n  include/linux/kvm_host.h \\\n  {KVM}/../../../virt/kvm/kvm_mm.h \\\n"
    ),
    f"{KVM}/vmx/.vmenter.o.cmd": f"source_x := {KVM}/vmx/vmenter.S\n\ndeps_x := \\\n  {KVM}/x86.h \\\n",
    "virt/kvm/eventfd.c": "",
    CONFIG: "CONFIG_KVM=m\nCONFIG_KVM_SMM=y\nCONFIG_KVM_SMM_MORE=y\n",
    HEADER: "#define CONFIG_KVM_MODULE 1\n#define CONFIG_KVM_SMM 1\n#define CONFIG_KVM_SMM_MORE 1\n",
    MARK.format("KVM_SMM"): "",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A built tree; trees that are compiled give what is in them for the compiler's words."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checks, "check_tools", lambda: None)
    monkeypatch.setattr(build, "_compiler", lambda: "gcc")
    monkeypatch.setattr(checks, "outcome", seen)
    return written(tmp_path / "linux", FILES)


def seen(farm, *targets, **how):
    texts = [(farm / path).read_text() for path in (CONFIG, HEADER)]
    marks = sorted(path.name for path in (farm / "include/config").iterdir() if not path.is_symlink())
    return Said(0, (*targets, *texts, *marks))


def test_options_are_those_of_the_tree(tree):
    assert checks.options(tree, ("KVM_SMM", "KVM_XEN", "KVM_HYPERV")) == {"KVM_SMM": True, "KVM_XEN": False}


@pytest.mark.parametrize(
    ("options", "config", "header"),
    [
        ((), FILES[CONFIG], FILES[HEADER]),
        ((("KVM_SMM", True),), FILES[CONFIG], FILES[HEADER]),
        (
            (("KVM_XEN", True),),
            FILES[CONFIG] + "CONFIG_KVM_XEN=y\n",
            FILES[HEADER] + "#define CONFIG_KVM_XEN 1\n",
        ),
        (
            (("KVM_SMM", False),),
            "CONFIG_KVM=m\nCONFIG_KVM_SMM_MORE=y\n",
            "#define CONFIG_KVM_MODULE 1\n#define CONFIG_KVM_SMM_MORE 1\n",
        ),
    ],
)
def test_an_option_is_switched_in_both_files(tree, options, config, header):
    said = checks.checked(tree, {}, Check(options), what="x")
    assert said.lines[:3] == ("-k", "M=arch/x86/kvm", "modules")
    assert said.lines[3:5] == (config, header)


def test_what_depends_on_a_switched_option_is_compiled_anew(tree):
    """make sees the age of the option's own file."""
    old = (tree / MARK.format("KVM_SMM")).stat().st_mtime_ns
    start = checks._switched(tree, (("KVM_SMM", False),), lambda said: None)
    assert (start / MARK.format("KVM_SMM")).stat().st_mtime_ns > old


def test_one_tree_serves_all_that_switch_the_same(tree):
    first = checks._switched(tree, (("KVM_XEN", True), ("KVM_SMM", True)), lambda said: None)
    assert first == checks._switched(tree, (("KVM_XEN", True),), lambda said: None) != tree
    assert checks._switched(tree, (("KVM_SMM", True),), lambda said: None) == tree


@pytest.mark.parametrize(
    ("header", "files"),
    [
        (f"{KVM}/lapic.h", [f"{KVM}/x86.c"]),
        (f"{KVM}/x86.h", [f"{KVM}/x86.c"]),
        ("include/linux/kvm_host.h", ["virt/kvm/eventfd.c"]),
        ("virt/kvm/kvm_mm.h", ["virt/kvm/eventfd.c"]),
        ("include/linux/kvm.h", []),
    ],
)
def test_which_files_include_a_header(tree, header, files):
    assert checks.users(tree, [header]) == files


def test_what_was_compiled_is_not_compiled_again_unless_something_differs(tree, monkeypatch):
    first = checks.checked(tree, {f"{KVM}/x86.c": b"1"}, Check(), what="x")
    monkeypatch.setattr(checks, "outcome", lambda *targets, **how: Said(1, ("again",)))
    assert checks.checked(tree, {f"{KVM}/x86.c": b"1"}, Check(), what="x") == first
    for overlay, check in (
        ({f"{KVM}/x86.c": b"2"}, Check()),
        ({f"{KVM}/x86.c": b"1"}, Check(sources=(f"{KVM}/x86.c",))),
        ({f"{KVM}/x86.c": b"1"}, Check((("KVM_XEN", True),))),
    ):
        assert checks.checked(tree, overlay, check, what="x") == Said(1, ("again",))
