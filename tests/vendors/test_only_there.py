"""What tells one vendor from the other by name is said in `vendors/` and nowhere else."""

import ast
import re

import pytest

from tests.test_layers import MODULES

# Kconfig's symbols (KVM_INTEL, KVM_AMD) are not among them: a kernel's configuration is data that names both.
NAMES = re.compile(r"kvm[_-](intel|amd)|\b(Genuine)?Intel\b|\b(Authentic)?AMD\b|VT-x")


def said(source):
    """Pieces of text in a source that are no documentation, each with its line."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def literals(source):
    return [(line, text) for line, text in said(source) if NAMES.search(text)]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("kvmharness.vendors.")])
def test_no_vendor_is_named(module):
    assert literals(MODULES[module].read_text()) == []


def test_the_vendors_are():
    assert literals(MODULES["kvmharness.vendors.vmx.names"].read_text())
    assert literals(MODULES["kvmharness.vendors.svm.names"].read_text())


@pytest.mark.parametrize(
    "text", ["modprobe kvm_intel", "kvm-amd.ko", "GenuineIntel", "on AMD only", "turn on VT-x", "an Intel CPU"]
)
def test_a_name_is_seen(text):
    assert literals(f'"""kvm_intel"""\nx = f"{{1}} {text}"') == [(2, f" {text}")]
