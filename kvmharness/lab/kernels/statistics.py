"""Which statistics KVM keeps, by its source: what can be read of a VM and a vCPU once its modules are loaded.

Source: include/linux/kvm_host.h, STATS_DESC(): every macro of the family takes the level, then the statistic's name.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from kvmharness.lab.kernels.trees import KVM_FOLDERS

FOLDER = "include/linux/"
"""Where those that all architectures have are, besides KVM's own folders."""

_GENERIC = f"{FOLDER}kvm_host.h"
# Neither histograms nor peaks: of these no difference can be taken.
_MACRO = re.compile(rb"\bSTATS_DESC_(?!LIN|LOG|P)\w+\(\s*(?:VM|VCPU)(?:_GENERIC)?,\s*(\w+)")


def of_tree(tree: Path) -> frozenset[str]:
    """The names in a kernel's source; empty before Linux 5.14, which did not describe them."""
    paths = [tree / _GENERIC, *(path for folder in KVM_FOLDERS for path in (tree / folder).rglob("*.c"))]
    return of_texts(path.read_bytes() for path in paths if path.is_file())


def of_texts(texts: Iterable[bytes]) -> frozenset[str]:
    """The names in some source files."""
    return frozenset(name.decode() for text in texts for name in _MACRO.findall(text))
