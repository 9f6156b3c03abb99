"""The model by hand-worked examples: what the manuals say about each, row by row.

A line is a row, and behind ``->`` the answers that are allowed, in any order. Rows without one must be "done".
"""

import pytest

from kvmharness.errors import UsageError
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.program import Row

# SDM vol. 3A: "Operations that Invalidate TLBs and Paging-Structure Caches", "Details of TLB Use"
ONE_LEVEL = {
    "an edit alone may show either": """
        L1 read p0 -> d0
        L1 map H0 p0 d9
        L1 read p0 -> d0 d9
        L1 invlpg p0
        L1 read p0 -> d9
    """,
    "INVLPG is for one address": """
        L1 map H0 p0 d9
        L1 map H0 p1 d10
        L1 invlpg p0
        L1 read p0 -> d9
        L1 read p1 -> d1 d10
    """,
    "what is not present is never cached": """
        L1 unmap H0 p0
        L1 invlpg p0
        L1 read p0 -> #PF(0x0)
        L1 map H0 p0 d9
        L1 read p0 -> d9
    """,
    "a move to CR3 flushes": """
        L1 map H0 p0 d9
        L1 cr3 H0
        L1 read p0 -> d9
    """,
    "but not global pages": """
        L1 set cr4.pge=1
        L1 map H0 p0 d9 g
        L1 cr3 H0
        L1 map H0 p0 d10 g
        L1 cr3 H0
        L1 read p0 -> d9 d10
        L1 set cr4.pge=0
        L1 read p0 -> d10
    """,
    "a PCID keeps what it has, and nobody else's": """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0 -> d8
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 cr3 H1 pcid=1 noflush
        L1 read p0 -> d8 d40
        L1 cr3 H1 pcid=2 noflush
        L1 read p0 -> d40
    """,
    "an upper entry that is cached leads to what the tables say now": """
        L1 set cr4.pcide=1
        L1 cr3 H1 noflush
        L1 map H0 p0 d41
        L1 read p0 -> d0 d8 d41
        L1 invlpg p0
        L1 read p0 -> d8
    """,
    "INVPCID by its type": """
        L1 set cr4.pcide=1
        L1 map H0 p0 d9
        L1 map H0 p1 d10
        L1 invpcid addr pcid=0 p0
        L1 read p0 -> d9
        L1 read p1 -> d1 d10
        L1 invpcid one pcid=1
        L1 read p1 -> d1 d10
        L1 invpcid one pcid=0
        L1 read p1 -> d10
    """,
    "a 2 MB page that is split": """
        L1 size H0 big
        L1 read q0 -> d4 d0
        L1 invlpg q0
        L1 read q0 -> d0
        L1 map H0 q0 d44
        L1 size H0 small
        L1 read q0 -> d0 d44
        L1 cr3 H0
        L1 read q0 -> d44
    """,
    "PCIDE needs PCID 0 in CR3": """
        L1 set cr4.pcide=1
        L1 cr3 H0 pcid=3
        L1 set cr4.pcide=0
        L1 set cr4.pcide=1 -> #GP(0x0)
    """,
    "rights": """
        L1 map H0 p0 d9 ro us
        L1 map H0 p1 d10 nx
        L1 cr3 H0
        L1 write p0 -> #PF(0x3)
        L1 uwrite p0 -> #PF(0x7)
        L1 uread p1 -> #PF(0x5)
        L1 fetch p1 -> #PF(0x11)
        L1 set cr0.wp=0
        L1 write p0
        L1 uwrite p0 -> #PF(0x7)
        L1 set cr4.smap=1
        L1 read p0 -> #PF(0x1)
        L1 uread p0 -> d9
        L1 set cr4.smep=1
        L1 fetch p0 -> #PF(0x11)
    """,
    "NX is reserved without NXE": """
        L1 map H0 p0 d9 nx
        L1 set efer.nxe=0
        L1 cr3 H0
        L1 read p0 -> #PF(0x9)
        L1 fetch p1 -> d1
        L1 unmap H0 p1
        L1 invlpg p1
        L1 fetch p1 -> #PF(0x0)
    """,
    "A and D": """
        L1 map H0 p0 d9 old
        L1 cr3 H0
        L1 look H0 p0 -> - A
        L1 read p0 -> d9
        L1 look H0 p0 -> A
        L1 write p0
        L1 look H0 p0 -> AD
    """,
    "another processor has caches of its own": """
        V1 read p0 -> d0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 read p0 -> d9
        V1 read p0 -> d0 d9
        V1 invlpg p0
        V1 read p0 -> d9
    """,
    "what is written is where it was mapped": """
        L1 write p0
        L1 peek d0 -> w1
        L1 map H0 p0 d9
        L1 write p0
        L1 peek d9 -> - w4
        L1 peek d0 -> w1 w4
    """,
    "memslots change at once": """
        L1 read p0 -> d0
        host slot delete
        L1 read p0 -> mmio|d0
        host slot move
        L1 read p0 -> b0
        host slot readonly
        L1 write p0 -> mmio|d0
        L1 peek d0 -> -
    """,
    "the log has what was written": """
        host dirty start
        L1 write p0
        L1 read p1 -> d1
        host dirty get -> at|least|d0
        host dirty get -> at|least|-
    """,
}

# SDM vol. 3C: "Caching Translation Information", "Operations that Invalidate Cached Mappings"
VMX = {
    "without VPID every transition flushes": """
        L1 map H0 p0 d9
        L1 enter G0
        L2 map G0 p0 d50
        L2 read p0 -> d32 d50
        L1 read p0 -> d9
        L1 enter G0
        L2 read p0 -> d50
    """,
    "with VPID none does": """
        L1 enter G0 tag=1
        L2 read p0 -> d32
        L1 map H0 p0 d9
        L1 map G0 p0 d50
        L1 enter G0 tag=1
        L2 read p0 -> d32 d50
        L1 read p0 -> d0 d9
        L1 enter G0 tag=2
        L2 read p0 -> d50
    """,
    "INVVPID": """
        L1 enter G0 tag=1
        L1 map G0 p0 d50
        L1 invvpid one tag=2
        L1 enter G0 tag=1
        L2 read p0 -> d32 d50
        L1 invvpid addr tag=1 p0
        L1 enter G0 tag=1
        L2 read p0 -> d50
        L1 invvpid one tag=0 -> refused|28
        L1 invvpid all
    """,
    "guest-physical translations belong to an EPTP, not to a VPID": """
        L1 enter G0 E0 tag=1
        L2 read p0 -> d32
        L1 emap E0 d32 d100
        L1 enter G0 E0 tag=2
        L2 read p0 -> d32 d100
        L1 invvpid all
        L1 enter G0 E0 tag=2
        L2 read p0 -> d32 d100
        L1 invept one E1
        L1 enter G0 E0 tag=2
        L2 read p0 -> d32 d100
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0 -> d100
    """,
    "EPT's rights, and what is not mapped": """
        L1 emap E0 d32 d100 r
        L1 eunmap E0 d33
        L1 enter G0 E0
        L2 read p0 -> d100
        L2 write p0 -> nested|fault|d32|w
        L2 read p1 -> nested|fault|d33|r
        L2 fetch p0 -> nested|fault|d32|x
    """,
    "bit 6 of the EPTP": """
        L1 enter G0 E0
        L2 write p0
        L1 elook E0 d32 -> -
        L1 enter G0 E0 ad
        L2 write p0
        L1 elook E0 d32 -> AD
    """,
    "refused entries": """
        L1 enter G0 bad=guest -> exit|0x80000021
        L1 enter G0 bad=host -> refused|8
        L1 enter G0 E0 bad=nested -> refused|7
    """,
}

# APM vol. 2: "TLB Control", "Nested Paging"
SVM = {
    "an ASID keeps everything, whatever N_CR3 says": """
        L1 enter G0 E0 tag=1
        L2 read p0 -> d32
        L1 enter G0 E1 tag=1
        L2 read p0 -> d32 d96
        L1 enter G0 E1 tag=1 flush=one
        L2 read p0 -> d96
        L1 enter G0 E1 tag=2
        L2 read p0 -> d96
    """,
    "TLB_CONTROL of one ASID leaves another": """
        L1 enter G0 tag=1
        L1 map G0 p0 d50
        L1 enter G1 tag=2 flush=one
        L1 enter G0 tag=1
        L2 read p0 -> d32 d50
        L1 enter G0 tag=1 flush=all
        L2 read p0 -> d50
    """,
    "INVLPGA": """
        L1 enter G0 tag=1
        L1 map G0 p0 d50
        L1 map G0 p1 d51
        L1 invlpga p0 tag=1
        L1 enter G0 tag=1
        L2 read p0 -> d50
        L2 read p1 -> d33 d51
    """,
    "the processor keeps A and D in nested tables": """
        L1 enter G0 E0
        L2 write p0
        L1 elook E0 d32 -> AD
    """,
    "refused entries": """
        L1 enter G0 bad=guest -> exit|invalid
    """,
}

CASES = [
    *((svm, name, text) for svm in (False, True) for name, text in ONE_LEVEL.items()),
    *((False, name, text) for name, text in VMX.items()),
    *((True, name, text) for name, text in SVM.items()),
]


@pytest.mark.parametrize(
    ("svm", "name", "text"), CASES, ids=[f"{'svm' if svm else 'vmx'}-{name}" for svm, name, _ in CASES]
)
def test_what_is_allowed(svm, name, text):
    model = Model(svm=svm)
    for line in filter(None, map(str.strip, text.splitlines())):
        row, _, wanted = line.partition(" -> ")
        allowed = {answer.replace("|", " ") for answer in wanted.split()} or {"done"}
        assert model.step(Row.parse(row)) == allowed, row


def test_rows_behind_a_refused_entry_are_not_reached():
    model = Model(svm=False)
    model.step(Row.parse("L1 enter G0 bad=guest"))
    assert model.step(Row.parse("L2 read p0")) == frozenset()
    assert model.step(Row.parse("L1 read p0")) == {"d0"}


def test_nobody_can_say_what_is_fetched_from_nowhere():
    model = Model(svm=False)
    model.step(Row.parse("L1 map H0 p0 m1"))
    with pytest.raises(UsageError, match="no memory"):
        model.step(Row.parse("L1 fetch p0"))
