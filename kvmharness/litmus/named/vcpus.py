"""Rule 12: several vCPUs with one table."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    12,
    (
        "other-vcpu-unmaps",
        "TLB shootdown between vCPUs would not work",
        """
        V1 read p0
        L1 read p0
        L1 map H0 p0 d40
        L1 invlpg p0
        L1 read p0
        V1 invlpg p0
        V1 read p0
        V1 unmap H0 p0
        V1 invlpg p0
        V1 read p0
        L1 invlpg p0
        L1 read p0
        """,
    ),
    (
        "other-vcpu-switches",
        "one vCPU's switch of roots would disturb another's",
        """
        L1 read p0
        V1 cr3 H1
        V1 read p0
        L1 read p0
        V1 cr3 H2
        L1 cr3 H3
        V1 read p0
        L1 read p0
        V1 cr3 H0
        V1 read p0
        L1 cr3 H1
        L1 read p0
        """,
    ),
    (
        "other-vcpu-slot",
        "a change of memslots would reach only the vCPU that runs",
        """
        L1 read p0
        V1 read p1
        host slot move
        V1 read p1
        L1 read p0
        host slot delete
        L1 read p0
        V1 read p1
        host slot add
        V1 write p1
        L1 peek d1
        """,
    ),
    (
        "other-vcpu-dirty",
        "pages that another vCPU has written would be left out of the log",
        """
        L1 write p0
        V1 write p1
        host dirty start
        V1 write p0
        L1 write p1
        V1 write p2
        host dirty get
        V1 write p0
        host dirty get
        """,
    ),
    (
        "other-vcpu-beside-l2",
        "a nested guest would be disturbed by a vCPU that edits and flushes beside it",
        """
        L1 enter G0 E0
        L2 read p0
        V1 read p0
        V1 emap E0 d32 d100
        V1 read p0
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        V1 map G0 p1 d40
        L1 enter G0 E0
        L2 invlpg p1
        L2 read p1
        """,
    ),
)
