"""Rule 4: what L1 changes in nested tables is used once it has flushed."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    4,
    (
        "invept-one",
        "a hypervisor that remaps its guest's memory would have the guest use the old",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d101
        L1 invept one E1
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "invept-previous-root",
        "memory of a guest that is not the last one that ran would be remapped in vain",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 enter G0 E1 tag=2
        L2 read p0
        L1 enter G0 E2 tag=3
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E1 tag=2
        L2 read p0
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "invept-other-ad",
        "INVEPT would miss a root because its EPTP differs in more than the address, which alone counts",
        """
        L1 enter G0 E0 ad
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E0 ad
        L2 read p0
        """,
    ),
    (
        "invept-all",
        "a hypervisor that flushes all nested tables would have left one out",
        """
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        L1 emap E0 d32 d100
        L1 emap E1 d32 d101
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        """,
    ),
    (
        "nested-unmap",
        "a page that a hypervisor has taken away would still be its guest's",
        """
        L1 enter G0 E0 tag=1
        L2 write p0
        L1 eunmap E0 d32
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        L2 write p0
        L2 read p1
        L1 emap E0 d32 d102
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "nested-split",
        "a huge page of nested tables that is split would keep its old mapping",
        """
        L1 esize E1 big
        L1 enter G0 E1
        L2 read p0
        L2 read p1
        L1 emap E1 d32 d105
        L1 esize E1 small
        L1 invept all
        L1 enter G0 E1
        L2 read p0
        L2 read p1
        L1 esize E1 big
        L1 invept all
        L1 enter G0 E1
        L2 read p0
        """,
    ),
    (
        "nested-roots-in-turn",
        "two guests of L1's would see each other's memory",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L2 write p0
        L1 enter G0 E1 tag=2
        L2 read p0
        L2 write p0
        L1 enter G0 E2 tag=3
        L2 read p0
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 peek d32
        L1 peek d96
        L1 peek d160
        """,
    ),
    (
        "nested-by-flush",
        "the same with SVM, where an entry flushes by ASID",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d100
        L1 enter G0 E0 tag=1 flush=all
        L2 read p0
        L1 emap E0 d32 d102
        L1 enter G0 E0 tag=2
        L2 read p0
        L1 eunmap E0 d33
        L1 enter G0 E0 tag=2 flush=all
        L2 read p1
        """,
    ),
    (
        "nested-by-flush-of-one",
        "the same where it flushes one ASID",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d101
        L1 enter G0 E0 tag=1 flush=one
        L2 read p0
        """,
    ),
    (
        "nested-edit-under-l2",
        "a root of nested tables whose guest runs on would not see what L2's own tables lead to",
        """
        L1 enter G0 E0
        L2 read p0
        L2 map G0 p0 d40
        L2 invlpg p0
        L2 read p0
        L1 emap E0 d40 d103
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        """,
    ),
)
