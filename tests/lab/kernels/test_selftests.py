"""Building a tree's selftests: a small tree that is made like the kernel's stands for it."""

import pytest

from kvmharness.lab.kernels import selftests
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.selftests import FOLDER
from kvmharness.system.packages import KERNEL_TOOLS, missing

pytestmark = pytest.mark.skipif(bool(missing(KERNEL_TOOLS)), reason="what builds kernels is not installed")

GOOD = "#include <answer.h>\nint main(void) { return ANSWER; }\n"
MAKEFILE = """\
TEST_GEN_PROGS := $(patsubst %,$(OUTPUT)/%,x86_64/first second)
selfdir = $(realpath $(dir $(lastword $(MAKEFILE_LIST))))
$(TEST_GEN_PROGS): $(OUTPUT)/%: %.c
\tmkdir -p $(dir $@) && $(CC) $(CFLAGS) -I$(selfdir)/../../../include $(LDFLAGS) $< -o $@
"""
FILES = {
    "Makefile": "headers:\n\t@mkdir -p usr && echo made >usr/headers\n",
    "usr/Makefile": "",
    "scripts/Makefile": "",
    "tools/include/answer.h": "#define ANSWER 0\n",
    f"{FOLDER}/Makefile": MAKEFILE,
    f"{FOLDER}/x86_64/first.c": GOOD,
    f"{FOLDER}/second.c": GOOD,
    "arch/x86/kvm/x86.c": "",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in FILES.items():
        place = tmp_path / "tree" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path / "tree"


def test_all_that_the_makefile_lists_are_built_and_the_tree_is_not_touched(tree):
    before = sorted(tree.rglob("*"))
    built = selftests.build(tree)
    assert list(built.binaries) == ["second", "x86_64/first"]
    assert not built.missing
    assert sorted(tree.rglob("*")) == before


def test_newer_trees_have_the_list_in_a_file_of_its_own(tree, monkeypatch):
    monkeypatch.setenv("ARCH", "arm64")  # for another tree
    (tree / FOLDER / "Makefile").write_text("ARCH ?= x86\nifeq ($(ARCH),x86)\ninclude Makefile.kvm\nendif\n")
    (tree / FOLDER / "Makefile.kvm").write_text(MAKEFILE.replace("x86_64/first", "x86/first"))
    (tree / FOLDER / "x86_64").rename(tree / FOLDER / "x86")
    assert list(selftests.build(tree).binaries) == ["second", "x86/first"]


def test_one_that_does_not_build_says_why_and_the_others_are_there(tree):
    (tree / FOLDER / "second.c").write_text("int main(void) { return nothing; }\n")
    built = selftests.build(tree)
    assert list(built.binaries) == ["x86_64/first"]
    assert built.missing["second"].startswith("it does not build: second.c:1:25: error: ")
    assert "nothing" in built.missing["second"]


def test_what_a_variant_changes_reaches_them(tree):
    stock = selftests.build(tree)
    changed = selftests.build(tree, {"tools/include/answer.h": b"#error not here\n"})
    assert not changed.binaries
    assert changed.missing["second"] == changed.missing["x86_64/first"]
    assert "#error not here" in changed.missing["second"]
    removed = selftests.build(tree, {f"{FOLDER}/second.c": None})
    assert list(removed.binaries) == ["x86_64/first"]
    assert selftests.build(tree) == stock


def test_a_variant_that_changes_no_selftest_has_the_same_ones(tree):
    overlay = {"arch/x86/kvm/x86.c": b"int changed;\n"}
    assert selftests.build(tree, overlay) == selftests.build(tree)


def test_a_tree_whose_headers_cannot_be_made_is_an_error(tree):
    (tree / "Makefile").write_text("headers:\n\tfalse\n")
    with pytest.raises(KernelBuildError, match="kernel headers: make failed"):
        selftests.build(tree)
