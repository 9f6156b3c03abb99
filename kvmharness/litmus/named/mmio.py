"""Rule 9: userspace is given the address that the root in use leads to."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    9,
    (
        "mmio-l1",
        "a device's registers would be taken for another's after a switch of roots",
        """
        L1 map H0 p0 m1
        L1 map H1 p0 m2
        L1 cr3 H0
        L1 read p0
        L1 write p0
        L1 cr3 H1
        L1 read p0
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 read p0
        """,
    ),
    (
        "mmio-l2",
        "the same for a nested guest",
        """
        L1 map G0 p0 m1
        L1 map G1 p0 m2
        L1 enter G0
        L2 read p0
        L2 write p0
        L2 cr3 G1
        L2 read p0
        L1 enter G0
        L2 read p0
        L1 map G0 p0 d50
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "mmio-nested",
        "a device that a hypervisor hands to its guest would be another one, or memory",
        """
        L1 emap E0 d32 m3
        L1 emap E1 d32 m4
        L1 enter G0 E0
        L2 read p0
        L2 write p0
        L2 read p1
        L1 enter G0 E1
        L2 read p0
        L1 enter G0 E0
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        """,
    ),
    (
        "mmio-edited",
        "a device that is mapped where another one was would not be reached",
        """
        L1 map H0 p0 m1
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 m2
        L1 cr3 H0
        L1 read p0
        L1 map G0 p0 m3
        L1 enter G0
        L2 read p0
        L1 map G0 p0 m4
        L1 enter G0
        L2 read p0
        L2 map G0 p0 m5
        L2 invlpg p0
        L2 read p0
        """,
    ),
    (
        "mmio-becomes-memory",
        "what KVM remembers of a place without memory would outlive the memslot that is put there",
        """
        host slot delete
        L1 read p0
        L1 read p1
        host slot add
        L1 read p0
        L1 write p1
        L1 peek d1
        """,
    ),
)
