"""Whether prefixes build: with a compiler that only looks for words, and for real with seeded faults."""

from difflib import unified_diff
from pathlib import Path

import pytest

from kvmharness.lab.kernels import build, checks
from kvmharness.lab.kernels.make import BuildTimeoutError, Said
from kvmharness.lab.kernels.source import debian
from kvmharness.patches import variants
from kvmharness.patches.series import load
from kvmharness.results.tests import BUILDS, FAIL, PASS, SKIP
from kvmharness.validation.builds import build_checks
from kvmharness.validation.look import Look, look
from tests.folders import written

KVM = "arch/x86/kvm"
FILES = {
    f"{KVM}/Kconfig": "config KVM_WERROR\n\tbool\nconfig KVM_SMM\n\tbool\nconfig KVM_XEN\n\tbool\n",
    f"{KVM}/mmu/mmu.c": "one\ntwo\nthree\n",
    f"{KVM}/x86.c": "OLD-WARNING\n",
    f"{KVM}/mmu.h": "header\n",
    f"{KVM}/mmu/.mmu.o.cmd": (
        f"source_{KVM}/mmu/mmu.o := {KVM}/mmu/mmu.c\n\ndeps_{KVM}/mmu/mmu.o := \\\n  {KVM}/mmu.h \\\n"
    ),
    "virt/kvm/kvm_main.c": "main\n",
    f"{KVM}/.kvm_main.o.cmd": f"source_x := {KVM}/../../../virt/kvm/kvm_main.c\n\ndeps_x := \\\n  {KVM}/mmu.h \\\n",
    "include/linux/kvm_host.h": "host\n",
    "include/config/auto.conf": "CONFIG_KVM=m\nCONFIG_KVM_SMM=y\n",
    "include/generated/autoconf.h": "#define CONFIG_KVM_MODULE 1\n#define CONFIG_KVM_SMM 1\n",
    "mm/memory.c": "memory\n",
}
ALL = ["W=1", "CONFIG_KVM_WERROR=y", "CONFIG_KVM_SMM=y", "CONFIG_KVM_XEN=n", "CONFIG_KVM_SMM=n", "CONFIG_KVM_XEN=y"]
# What the compiler says of a file that has one of these words, where it says it, and whether it goes on.
WORDS = {
    "OLD-WARNING": ("old thing", "always", True),
    "WARNING": ("unused variable 'x' [-Wunused-variable]", "always", True),
    "ONLY-W1": ("set but not used", "W=1", True),
    "NEEDS-XEN": ("'xen' undeclared", "#define CONFIG_KVM_XEN 1", False),
    "SLOW": ("", "", True),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A built tree, and a compiler that looks for words."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checks, "check_tools", lambda: None)
    monkeypatch.setattr(checks, "outcome", compiler)
    monkeypatch.setattr(build, "_compiler", lambda: "it")
    runs.clear()
    return written(tmp_path / "linux", FILES)


runs = []


def compiler(farm, *targets, what, **how):
    assert targets[:2] == ("-k", "M=arch/x86/kvm")
    runs.append((what, targets[2:]))
    named = [str(farm / KVM / target.removesuffix(".o")) + ".c" for target in targets[3:]]
    header = (farm / "include/generated/autoconf.h").read_text()
    werror = "CONFIG_KVM_WERROR=y" in (farm / "include/config/auto.conf").read_text()
    lines, status = [], 0
    for path in map(Path, named or sorted((farm / KVM).rglob("*.c"))):
        for number, word in enumerate(path.resolve().read_text().split(), 1):
            if word == "SLOW":
                raise BuildTimeoutError(f"{what}: not done after 120 s, stopped", ["  CC x.o"])
            said, when, harmless = WORDS.get(word, ("", "never", True))
            if when == "always" or (when == "W=1" and "W=1" in targets) or (not harmless and when not in header):
                kind = "warning" if harmless and not werror else "error"
                lines.append(f"{path.resolve().relative_to(farm.resolve())}:{number}:1: {kind}: {said}")
                status |= kind == "error"
    return Said(2 * status, tuple(lines))


def series(tree, *edits):
    """Patches of one edit each: (path, old, new); a file that is not there yet is made."""
    folder = tree.parent / "series"
    folder.mkdir()
    texts = dict(FILES)
    for number, (path, old, new) in enumerate(edits, 1):
        before = texts.get(path, "")
        texts[path] = before.replace(old, new) if before else new
        origin = f"a/{path}" if before else "/dev/null"
        lines = unified_diff(before.splitlines(True), texts[path].splitlines(True), origin, f"b/{path}")
        mail = f"From: a@b.example\nSubject: [PATCH {number}/{len(edits)}] Step {number}\n\n---\n{''.join(lines)}"
        (folder / f"{number}.patch").write_text(mail)
    return load(str(folder))


def outcomes(tree, *edits):
    """Of every check and variant."""
    kernel, what = build.Kernel(tree / "bzImage", tree, tree=tree), series(tree, *edits)
    plan = variants.plan(what, tree)
    seen = Look(what, kernel, plan, plan.variants, (), (), frozenset(), frozenset())
    found = build_checks(seen, lambda said: None, lambda said: None)
    assert {each.battery for each in found} == {BUILDS}
    return {(each.variant, each.name): each for each in found}


def failing(found):
    return {key: each.why for key, each in found.items() if each.outcome == FAIL}


def test_a_series_without_fault_passes_everywhere(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"), (f"{KVM}/mmu/mmu.c", "TWO", "too"))
    assert {key: each.outcome for key, each in found.items() if each.name != "CONFIG_KVM_WERROR=y"} == {
        (variant, name): PASS for variant in ("none", "p1", "both") for name in ALL if name != "CONFIG_KVM_WERROR=y"
    }


def test_what_the_kernel_does_not_build_with_anyway_is_the_same_failure_everywhere(tree):
    """An old warning is an error with KVM_WERROR."""
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"))
    why = "x86.c: old thing"
    assert failing(found) == {(variant, "CONFIG_KVM_WERROR=y"): why for variant in ("none", "p1")}


def test_only_files_that_the_series_changes_are_looked_at_with_more_warnings(tree):
    outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"), ("virt/kvm/kvm_main.c", "main", "MAIN"))
    asked = {targets for _, targets in runs if targets[0] == "W=1"}
    assert asked == {("W=1", "mmu/mmu.o", "../../../virt/kvm/kvm_main.o")}


def test_a_header_is_looked_at_in_the_files_that_include_it(tree):
    outcomes(tree, (f"{KVM}/mmu.h", "header", "HEADER"))
    asked = {targets for _, targets in runs if targets[0] == "W=1"}
    assert asked == {("W=1", "mmu/mmu.o", "../../../virt/kvm/kvm_main.o")}


def test_a_new_warning_is_told_once_with_its_lines_and_fails_werror(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "WARNING"), (f"{KVM}/mmu/mmu.c", "three", "more\nthree"))
    why = "mmu/mmu.c: unused variable 'x' [-Wunused-variable]"
    assert {key: each for key, each in failing(found).items() if key[1] != "CONFIG_KVM_WERROR=y"} == {
        ("p1", "W=1"): why,
        ("both", "W=1"): why,
    }
    assert found["p1", "CONFIG_KVM_WERROR=y"].why == why
    assert found["p1", "W=1"].table == (f"{KVM}/mmu/mmu.c:2:1: warning: unused variable 'x' [-Wunused-variable]",)


def test_a_warning_that_only_w1_gives(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"), (f"{KVM}/mmu/mmu.c", "three", "ONLY-W1"))
    del found["both", "CONFIG_KVM_WERROR=y"], found["p1", "CONFIG_KVM_WERROR=y"], found["none", "CONFIG_KVM_WERROR=y"]
    assert failing(found) == {("both", "W=1"): "mmu/mmu.c: set but not used"}


def test_what_breaks_without_an_option(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "NEEDS-XEN"))
    fails = {name for variant, name in failing(found) if variant == "p1"}
    assert fails == {"CONFIG_KVM_WERROR=y", "CONFIG_KVM_SMM=y", "CONFIG_KVM_XEN=n", "CONFIG_KVM_SMM=n"}
    assert found["p1", "CONFIG_KVM_XEN=n"].why == "mmu/mmu.c: 'xen' undeclared"


def test_what_takes_too_long_is_no_verdict_and_tried_again(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "SLOW"))
    late = [each for (variant, _), each in found.items() if variant == "p1"]
    assert {each.outcome for each in late} == {SKIP}
    assert late[0].why == "variant p1, W=1: not done after 120 s, stopped"
    assert {each.outcome for (variant, name), each in found.items() if variant == "none"} == {PASS, FAIL}


def test_a_new_file_is_compiled_where_there_is_one(tree):
    new = f"{KVM}/new.c"
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"), (new, "", "WARNING\n"))
    assert found["both", "W=1"].why == "new.c: unused variable 'x' [-Wunused-variable]"
    assert [targets for what, targets in runs if what == "variant p1, W=1"] == [("W=1", "mmu/mmu.o")]


def test_answers_are_kept(tree):
    edit = (f"{KVM}/mmu/mmu.c", "two", "TWO")
    first = outcomes(tree, edit)
    done = len(runs)
    (tree.parent / "series/1.patch").unlink()
    (tree.parent / "series").rmdir()
    assert outcomes(tree, edit) == first
    assert len(runs) == done
    assert sum("KVM with" in what for what, _ in runs) == 3


def test_what_is_outside_of_kvm_is_said_not_to_be_compiled(tree):
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"), ("mm/memory.c", "memory", "MEMORY"))
    skipped = found["both", "W=1 outside of KVM"]
    assert (skipped.outcome, skipped.why) == (
        SKIP,
        "mm/memory.c: not compiled here, as not being a part of KVM's modules",
    )
    assert ("p1", "W=1 outside of KVM") not in found


def test_a_tree_that_was_not_built_is_said_to_be_none(tree):
    (tree / "include/config/auto.conf").unlink()
    found = outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"))
    assert {key: each.outcome for key, each in found.items()} == {("none", "W=1"): SKIP, ("p1", "W=1"): SKIP}
    assert "is no built tree" in found["p1", "W=1"].why


def test_the_tree_stays_as_it_was(tree):
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    outcomes(tree, (f"{KVM}/mmu/mmu.c", "two", "TWO"))
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_seeded_faults_on_a_real_kernel(tmp_path):
    """Each patch brings one, of which the kernel's own build tells nothing until the last."""
    path, anchor = f"{KVM}/i8254.c", "int pit_get_gate(struct kvm_pit *pit, int channel)\n{\n"
    text = (build.kernel(debian()).tree / path).read_text()
    faults = (
        "\tint set_only;\n\n\tset_only = channel;\n",
        "\tint unused_one;\n",
        "\t__kvm_xen_has_interrupt(NULL);\n",
    )
    folder = tmp_path / "series"
    folder.mkdir()
    added = '#include "i8254.h"\n'
    for number, fault in enumerate(faults, 1):
        after = text.replace(anchor, anchor + fault)
        after = after.replace(added, added + '#include "xen.h"\n') if number == 3 else after
        assert after != text
        lines = unified_diff(text.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
        mail = f"From: a@b.example\nSubject: [PATCH {number}/3] Fault {number}\n\n---\n{''.join(lines)}"
        (folder / f"{number}.patch").write_text(mail)
        text = after
    seen = look(load(str(folder)), debian())
    results = build_checks(seen, lambda said: None, lambda said: None)
    found = failing({(each.variant, each.name): each for each in results})
    set_only = "i8254.c, in pit_get_gate(): variable 'set_only' set but not used [-Wunused-but-set-variable]"
    unused = "i8254.c, in pit_get_gate(): unused variable 'unused_one' [-Wunused-variable]"
    xen = found.pop(("all", "CONFIG_KVM_XEN=n"))
    assert "i8254.c, in pit_get_gate(): implicit declaration of function '__kvm_xen_has_interrupt'" in xen
    assert found.pop(("all", "CONFIG_KVM_WERROR=y")).startswith("i8254.c, in pit_get_gate()")
    assert found == {
        ("p1", "W=1"): set_only,
        ("p1-2", "W=1"): set_only,
        ("p1-2", "CONFIG_KVM_WERROR=y"): unused,
        ("all", "W=1"): set_only,
    }
    both = next(each.table for each in results if (each.variant, each.name) == ("p1-2", "W=1"))
    assert [line.partition("warning: ")[2] for line in both if "warning: " in line] == [
        words.partition("(): ")[2] for words in (set_only, unused)
    ]
