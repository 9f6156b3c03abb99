"""Functions of C files, and which of them a change changes. The snippets have the shapes that KVM's files have."""

import re

import pytest

from kvmharness.lab.kernels.source import debian, to_read
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.oracle.csource import without_comments
from kvmharness.patches.functions import changed, definitions
from kvmharness.system import packages

TEXT = """
#include <linux/kvm_host.h>

#define LONG_ONE(x)		\\
({				\\
	first(x);		\\
})
#define SHORT 4

static bool __read_mostly tdp = true;
module_param(tdp, bool, 0444);

/* A comment { with a brace. */
static inline bool is_on(void) { return tdp; }

static int __must_check
in_two_lines(struct kvm *kvm, int (*handler)(struct kvm_vcpu *vcpu),
		unsigned long flags)
	__must_hold(&kvm->lock)
{
	if (flags) {
		pr_info("}");
	}
#define INNER 1
	return handler(0);
}
EXPORT_SYMBOL_GPL(in_two_lines);

static int FNAME(walk_addr)(struct guest_walker *walker)
{
	return SHORT;
}

static const struct kvm_x86_ops ops = {
	.run = in_two_lines,
};
"""


def test_every_definition_is_found():
    found = definitions(without_comments(TEXT))
    assert [(each.name, each.macro) for each in found] == [
        ("LONG_ONE", True),
        ("SHORT", True),
        ("is_on", False),
        ("in_two_lines", False),
        ("walk_addr", False),
    ]
    assert found[0].words == {"first", "x"}
    assert found[2].words == {"return", "tdp"}
    assert found[3].parameters == ("kvm", "vcpu", "flags")
    assert {"handler", "INNER"} <= found[3].words


@pytest.mark.parametrize(
    ("old", "new", "functions", "beside"),
    [
        ("/* A comment {", "/* Another {", [], set()),
        ("	if (flags) {", "	if (flags)  { /* why */", [], set()),
        ("	first(x);", "	second(x);", ["LONG_ONE", "LONG_ONE"], set()),
        ("SHORT 4", "SHORT 5", ["SHORT", "SHORT"], set()),
        ("return handler(0)", "return handler(1)", ["in_two_lines", "in_two_lines"], set()),
        ("unsigned long flags", "u64 flags", ["in_two_lines", "in_two_lines"], set()),
        ("return SHORT", "return 0", ["walk_addr", "walk_addr"], set()),
        ("tdp = true", "tdp", [], {"static", "bool", "__read_mostly", "tdp", "true"}),
        (".run = in", ".run = not_in", [], {"in_two_lines", "not_in_two_lines"}),
        ("= in_two_lines,", "= in_two_lines,\n\t.stop = 0,", [], {"stop"}),
    ],
)
def test_what_a_change_changes(old, new, functions, beside):
    assert old in TEXT
    found = changed(TEXT.encode(), TEXT.replace(old, new).encode())
    assert [each.name for each in found.functions] == functions
    assert found.beside == beside


def test_a_file_that_comes_or_goes():
    assert {each.name for each in changed(None, TEXT.encode()).functions} >= {"is_on", "walk_addr"}
    assert changed(TEXT.encode(), None).beside >= {"tdp", "ops"}


@pytest.mark.slow
@pytest.mark.skipif(bool(packages.missing(("linux-source-6.1.tar.xz",))), reason="apt-get install linux-source-6.1")
def test_no_function_of_kvm_is_missed():
    """Each opening brace in the first column of a C file is that of a function."""
    tree = to_read(debian(), KVM_FOLDERS)
    for path in (path for folder in KVM_FOLDERS for path in (tree / folder).rglob("*.c")):
        text = without_comments(path.read_text("utf-8", "replace"))
        found = [each for each in definitions(text) if f"{each.head}\n{{" in text]
        assert len(found) >= len(re.findall(r"^\{$", text, re.MULTILINE)), path
